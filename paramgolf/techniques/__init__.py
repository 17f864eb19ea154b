"""The catalogue: one technique, one file. Importing this package fills the registry."""

from paramgolf.techniques import model as model
