"""The default page: a benchmark of one's own."""
