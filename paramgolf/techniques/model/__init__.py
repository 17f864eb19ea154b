"""Techniques of the forward pass."""

from paramgolf.techniques.model.branch_scale import BranchScale as BranchScale
from paramgolf.techniques.model.qk_gain import QKGain as QKGain
from paramgolf.techniques.model.qk_norm import QKNorm as QKNorm
from paramgolf.techniques.model.relu_squared import ReLUSquared as ReLUSquared
from paramgolf.techniques.model.rope import Rope as Rope
from paramgolf.techniques.model.tanh_softcap import TanhSoftcap as TanhSoftcap
from paramgolf.techniques.model.unet_skips import UNetSkips as UNetSkips
from paramgolf.techniques.model.x0_mix import X0Mix as X0Mix
from paramgolf.techniques.model.zero_out import ZeroOut as ZeroOut
