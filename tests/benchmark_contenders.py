"""Contenders of a benchmark that cost nothing; their processes import no TensorFlow."""

import os
import signal
import time

from tfseg.benchmark import Session


def idle(job):
    return Session(step=lambda: None, matrix_product=lambda: None, facts={"parameters": 3})


def counting(job):
    facts = {"parameters": 3, "macs": 10}
    return Session(step=lambda: None, matrix_product=lambda: None, facts=facts)


def parted(job):
    parts = {"short": lambda: time.sleep(0.01), "long": lambda: time.sleep(0.05)}
    return Session(step=lambda: None, matrix_product=lambda: None, facts={}, parts=parts)


def failing(job):
    raise ValueError(f"cannot build {job.model}")


def dying(job):
    return Session(step=lambda: os._exit(7), matrix_product=lambda: None, facts={})


def killed(job):
    os.kill(os.getpid(), signal.SIGKILL)


def hanging(job):
    time.sleep(600)
