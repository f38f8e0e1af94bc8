"""Trainings as the authors of the methods wrote theirs: PIL images in a DataLoader, float32, a loop over the weights.

They serve `benchmarks/training.py` alone, which compares our own with them at equal encoder, views, batch and cores.
"""
