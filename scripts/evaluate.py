"""`tfseg evaluate` as a script: python scripts/evaluate.py --help."""

from tfseg.cli import evaluate

if __name__ == "__main__":
    evaluate()
