"""Techniques of the data stage."""

from paramgolf.techniques.data.coprime import Coprime as Coprime
from paramgolf.techniques.data.packed import Packed as Packed
from paramgolf.techniques.data.sequential import Sequential as Sequential
from paramgolf.techniques.data.shuffled import Shuffled as Shuffled
