"""`train.log` in the grammar of the challenge's own script, so that existing dashboards read it."""

from collections.abc import Callable
from pathlib import Path

from paramgolf.events import Event, append


def log_lines(event: Event) -> list[str]:
    """The lines that `event` puts into the log; most kinds put none."""
    write = GRAMMAR.get(event["event"])
    return write(event) if write else []


class ChallengeLog:
    """A listener that appends to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: Event) -> None:
        lines = log_lines(event)
        if lines:
            append(self.path, "\n".join(lines) + "\n")


def started(event: Event) -> list[str]:
    """Data, model and settings."""
    rates = " ".join(f"{name}:{event['rates'][key]}" for name, key in RATES)
    return [
        f"val_bpb:enabled tokenizer_kind={event['tokenizer_kind']} tokenizer_path={event['tokenizer']}",
        f"train_loader:dataset:{event['dataset']} train_shards:{event['train_shards']}",
        f"val_loader:shards pattern={event['val_pattern']} tokens:{event['val_tokens']}",
        f"model_params:{event['params']}",
        f"world_size:{event['world']} grad_accum_steps:{event['accumulation']}",
        f"attention_backend:{event['backend']} device:{event['device']} torch:{event['torch']}",
        f"attention_mode:gqa num_heads:{event['heads']} num_kv_heads:{event['kv_heads']}",
        f"tie_embeddings:{event['tied']} {rates}",
        f"train_batch_tokens:{event['batch_tokens']} train_seq_len:{event['seq_len']} iterations:{event['steps']} "
        f"warmup_steps:{event['warmup']} max_wallclock_seconds:{event['train_seconds']:.3f}",
        f"seed:{event['seed']}",
    ]


RATES = (("embed_lr", "token"), ("head_lr", "head"), ("matrix_lr", "matrix"), ("scalar_lr", "scalar"))


def times(event: Event) -> str:
    """`train_time` and `step_avg`."""
    milliseconds = 1000 * event["train_seconds"]
    return f"train_time:{milliseconds:.0f}ms step_avg:{milliseconds / max(event['step'], 1):.2f}ms"


def warmup_line(event: Event) -> list[str]:
    """A compile warm-up step."""
    return [f"warmup_step:{event['step']}/{event['steps']}"]


def step_line(event: Event) -> list[str]:
    """A training step."""
    return [f"step:{event['step']}/{event['steps']} train_loss:{event['loss']:.4f} {times(event)}"]


def validation_line(event: Event) -> list[str]:
    """A validation during or right after training."""
    scores = f"val_loss:{event['val_loss']:.4f} val_bpb:{event['val_bpb']:.4f}"
    return [f"step:{event['step']}/{event['steps']} {scores} {times(event)}"]


def trained_lines(event: Event) -> list[str]:
    """The end of training."""
    lines = []
    if event["by_clock"]:
        milliseconds = 1000 * event["train_seconds"]
        lines.append(
            f"stopping_early: wallclock_cap train_time:{milliseconds:.0f}ms step:{event['step']}/{event['steps']}"
        )
    lines.append(f"peak memory allocated: {event['peak_mib']} MiB reserved: {event['reserved_mib']} MiB")
    return lines


def exported_lines(event: Event) -> list[str]:
    """Sizes."""
    return [
        f"Serialized model: {event['raw_bytes']} bytes",
        f"Code size: {event['code_bytes']} bytes",
        f"Total submission size: {event['raw_bytes'] + event['code_bytes']} bytes",
        f"Serialized model {event['format']}: {event['artifact_bytes']} bytes",
        f"Total submission size {event['format']}: {event['artifact_bytes'] + event['code_bytes']} bytes",
    ]


def scored_lines(event: Event) -> list[str]:
    """A score from the artifact."""
    name = f"final_{event['format'].replace('+', '_')}_{event['what']}"
    milliseconds = 1000 * event["eval_seconds"]
    return [
        f"{name} val_loss:{event['val_loss']:.4f} val_bpb:{event['val_bpb']:.4f} eval_time:{milliseconds:.0f}ms",
        f"{name}_exact val_loss:{event['val_loss']:.8f} val_bpb:{event['val_bpb']:.8f}",
    ]


GRAMMAR: dict[str, Callable[[Event], list[str]]] = {
    "started": started,
    "warmup": warmup_line,
    "step": step_line,
    "validation": validation_line,
    "trained": trained_lines,
    "exported": exported_lines,
    "scored": scored_lines,
}
