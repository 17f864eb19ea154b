"""Techniques of evaluation."""

from paramgolf.techniques.evaluate.sliding import Sliding as Sliding
