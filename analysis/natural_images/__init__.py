"""The report's pages of natural images: few-shot transfer, table 2, and CIFAR-10, figure A4."""
