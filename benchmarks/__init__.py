from analysis.terminal import plain

# the scripts print letters that not every terminal has
plain()
