"""Around a study: submitted jobs, checks of machines and servers, interfaces, data that is brought along."""
