"""Techniques of evaluation."""

from paramgolf.evaluate.documents import Documents as Documents
from paramgolf.techniques.evaluate.sliding import Sliding as Sliding
