"""Multiplies and decomposes matrices with NumPy in the threads of OpenBLAS; prints a digest of each result."""

import hashlib

import numpy as np

matrix = np.random.default_rng(1).normal(size=(400, 400))
for step in range(50):
    orthogonal, triangular = np.linalg.qr(matrix)
    matrix = triangular @ orthogonal + np.diag(np.linalg.norm(matrix, axis=0)) / 100
    print("step", step, hashlib.sha256(matrix.tobytes()).hexdigest(), flush=True)
