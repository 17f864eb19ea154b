"""Submissions in the shapes that people use, made up."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

RATIO = 3.7266
"""Bytes a token of sp8192."""


def bpb_of(loss: float, ratio: float = RATIO) -> float:
    return loss / math.log(2) / ratio


def first_form(**changes: Any) -> dict[str, Any]:
    """Nine fields, of March."""
    values = {
        "author": "A. Golfer",
        "github_id": "agolfer",
        "name": "Wider and flatter",
        "blurb": "Twice as wide, half as deep.",
        "date": "2026-03-20T10:00:00Z",
        "val_loss": 2.8,
        "val_bpb": round(bpb_of(2.8), 8),
        "bytes_total": 15_900_000,
        "bytes_code": 50_000,
    }
    return {**values, **changes}


LOSSES = {42: 2.801, 0: 2.8034, 1234: 2.7986}


def later_form(losses: dict[int, float] | None = None, **changes: Any) -> dict[str, Any]:
    """With `seed_results`, of April."""
    losses = losses or LOSSES
    results = {
        str(seed): {
            "val_loss": loss,
            "val_bpb": round(bpb_of(loss), 8),
            "artifact_bytes": 15_900_000 + seed,
            "steps": 4900 + seed % 7,
            "train_time_s": 596.5,
            "eval_time_s": 410.25,
        }
        for seed, loss in losses.items()
    }
    mean = sum(losses.values()) / len(losses)
    values = {
        **first_form(val_loss=round(mean, 8), val_bpb=round(bpb_of(mean), 8)),
        "track": "10min_16mb",
        "date": "2026-04-20",
        "bytes_total": max(result["artifact_bytes"] for result in results.values()),
        "seeds": list(losses),
        "seed_results": results,
    }
    return {**values, **changes}


def april_log(seed: int, *, total: int | None = None, loss: float | None = None, steps: int | None = None) -> str:
    """As the scripts of April print: settings as a block, `val_loss: 2.8` with a space, scores with eight digits."""
    loss = LOSSES[seed] if loss is None else loss
    total = 15_900_000 + seed if total is None else total
    steps = 4900 + seed % 7 if steps is None else steps
    return f"""W0420 04:38:18.092000 206 torch/distributed/run.py:803] ****
Hyperparameters:
  adam_eps: 1e-08
  max_wallclock_seconds: 600.0
  seed: {seed}
  world_size: 8
train_shards: 80
val_tokens: 40540160
model_params:35944536
warmup_step: 1/20
0/20000 val_loss: 9.0090 val_bpb: 3.4877
1/20000 train_loss: 9.0104 train_time: 0.0m tok/s: 8211364
{steps}/20000 val_loss: {loss + 0.01:.4f} val_bpb: {bpb_of(loss + 0.01):.4f}
stopping_early: wallclock_cap train_time: 596500ms step: {steps}/20000
peak memory allocated: 39045 MiB reserved: 39124 MiB
pre-quantization post-ema val_loss:{loss - 0.01:.8f} val_bpb:{bpb_of(loss - 0.01):.8f} eval_time:7440ms
Serialized model: 135431033 bytes
Code size: 50000 bytes
GPTQ:collected 67 Hessians in 2.5s
Serialized model quantized+brotli: {total - 50_000} bytes
Total submission size quantized+brotli: {total} bytes
quantized val_loss:{loss + 0.02:.8f} val_bpb:{bpb_of(loss + 0.02):.8f} eval_time:25515ms
quantized_ttt val_loss:{loss:.8f} val_bpb:{bpb_of(loss):.8f} eval_time:410250ms
"""


def march_log(seed: int = 1337, *, train_ms: int = 600_038) -> str:
    """As the first script prints: `step:1/20000`, a score rounded with its time and then exact."""
    return f"""val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=./data/tokenizers/fineweb_1024_bpe.model
val_loader:shards pattern=./data/datasets/fineweb10B_sp1024/fineweb_val_*.bin tokens:62021632
model_params:17059912
world_size:8 grad_accum_steps:1
seed:{seed}
warmup_step:20/20
step:0/20000 val_loss:6.9307 val_bpb:4.1048 train_time:0ms step_avg:0.01ms
step:13780/20000 train_loss:2.0402 train_time:{train_ms - 10}ms step_avg:43.54ms
step:13780/20000 val_loss:2.0606 val_bpb:1.2204 train_time:{train_ms}ms step_avg:43.54ms
stopping_early: wallclock_cap train_time:{train_ms}ms step:13780/20000
Serialized model: 67224983 bytes
Code size: 47642 bytes
Total submission size: 67272625 bytes
Serialized model int8+zlib: 15815847 bytes (payload:17178912 raw_torch:17224025 payload_ratio:3.91x)
Total submission size int8+zlib: 15863489 bytes
final_int8_zlib_roundtrip val_loss:2.0727 val_bpb:{bpb_of(2.07269931, 2.4359):.4f} eval_time:1401ms
final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:{bpb_of(2.07269931, 2.4359):.8f}
"""


SCRIPT = b"print('training')\n".ljust(50_000, b"#")


def write_entry(folder: Path, claim: dict[str, Any] | None = None, logs: dict[str, str] | None = None) -> Path:
    """A whole folder that has nothing wrong with it, but for what is given."""
    claim = later_form() if claim is None else claim
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "submission.json").write_text(json.dumps(claim))
    score = f"Score: {claim.get('val_bpb', 0)}.\n"
    (folder / "README.md").write_text(
        "# Wider and flatter\n\n" + score + "It is wide and flat and trained as usual.\n" * 10
    )
    (folder / "train_gpt.py").write_bytes(SCRIPT)
    (folder / "requirements.txt").write_text("torch\n")
    for name, text in (logs or {f"train_seed{seed}.log": april_log(seed) for seed in LOSSES}).items():
        (folder / name).write_text(text)
    return folder


def freeze(folder: Path) -> None:
    """Write `SHA256SUMS`."""
    lines = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name != "SHA256SUMS"
    )
    (folder / "SHA256SUMS").write_text("".join(lines))
