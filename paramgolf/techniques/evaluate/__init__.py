"""Techniques of evaluation."""

from paramgolf.evaluate.documents import Documents as Documents
from paramgolf.techniques.evaluate.distill_ttt import DistillTTT as DistillTTT
from paramgolf.techniques.evaluate.logit_rescale import LogitRescale as LogitRescale
from paramgolf.techniques.evaluate.lora_ttt import LoraTTT as LoraTTT
from paramgolf.techniques.evaluate.ngram_mixture import NgramMixture as NgramMixture
from paramgolf.techniques.evaluate.ngram_tilt import NgramTilt as NgramTilt
from paramgolf.techniques.evaluate.phased_ttt import PhasedTTT as PhasedTTT
from paramgolf.techniques.evaluate.sgd_ttt import SGDTTT as SGDTTT
from paramgolf.techniques.evaluate.sliding import Sliding as Sliding
from paramgolf.techniques.evaluate.temperature import Temperature as Temperature
