"""Techniques of the forward pass."""

from paramgolf.techniques.model.bigram_hash import BigramHash as BigramHash
from paramgolf.techniques.model.branch_scale import BranchScale as BranchScale
from paramgolf.techniques.model.ln_scale import LNScale as LNScale
from paramgolf.techniques.model.qk_gain import QKGain as QKGain
from paramgolf.techniques.model.qk_norm import QKNorm as QKNorm
from paramgolf.techniques.model.relu_squared import ReLUSquared as ReLUSquared
from paramgolf.techniques.model.rope import Rope as Rope
from paramgolf.techniques.model.smear_v1 import SmearV1 as SmearV1
from paramgolf.techniques.model.smear_v2 import SmearV2 as SmearV2
from paramgolf.techniques.model.tanh_softcap import TanhSoftcap as TanhSoftcap
from paramgolf.techniques.model.trigram_hash import TrigramHash as TrigramHash
from paramgolf.techniques.model.unet_skips import UNetSkips as UNetSkips
from paramgolf.techniques.model.value_embedding import ValueEmbedding as ValueEmbedding
from paramgolf.techniques.model.value_residual import ValueResidual as ValueResidual
from paramgolf.techniques.model.x0_mix import X0Mix as X0Mix
from paramgolf.techniques.model.yarn import Yarn as Yarn
from paramgolf.techniques.model.zero_out import ZeroOut as ZeroOut
