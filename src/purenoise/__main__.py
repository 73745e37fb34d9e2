"""``python -m purenoise``."""

from purenoise.cli import main

if __name__ == "__main__":
    main()
