"""What the commands show: progress, tables, and the words of some of them."""
