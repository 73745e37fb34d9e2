"""LDAM-DRW's command line: its flags, its files, its rules, on tiny files in CIFAR's layout."""
