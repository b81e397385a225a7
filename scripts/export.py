"""`tfseg export` as a script: python scripts/export.py --help."""

from tfseg.cli import export

if __name__ == "__main__":
    export()
