"""`tfseg predict` as a script: python scripts/predict.py --help."""

from tfseg.cli import predict

if __name__ == "__main__":
    predict()
