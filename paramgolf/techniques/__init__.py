"""The catalogue: one technique, one file. Importing this package fills the registry."""

from paramgolf.techniques import artifact as artifact
from paramgolf.techniques import data as data
from paramgolf.techniques import evaluate as evaluate
from paramgolf.techniques import model as model
from paramgolf.techniques import optim as optim
from paramgolf.techniques import quant as quant
