"""The part of a report that is explored in the browser: the study's curves and points, and what draws them.

`content` collects what is shown, `packing` makes text of it, `embedding` what a page holds; `scripts` are run in order.
"""
