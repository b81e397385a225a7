"""`tfseg train` as a script: python scripts/train.py --help."""

from tfseg.cli import train

if __name__ == "__main__":
    train()
