"""Two processes over gloo that calibrate and export one run; started by `test_export_stage.py`, prints one JSON object.

It forks both ranks from one interpreter, as importing torch takes longer than the work.
"""

import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny import tiny_dataset, tiny_run, tiny_session

from paramgolf.data.dataset import Dataset
from paramgolf.quant.plan import QuantConfig
from paramgolf.quant.training_batches import TrainingBatches
from paramgolf.stages import calibrate, execute, fresh_model
from paramgolf.techniques.quant import GPTQ, SDClip
from paramgolf.train.distributed import Place, placed

FEEDBACK = GPTQ(bits=4, clip=SDClip(sigmas=5.0))
QUANT = QuantConfig(attention=FEEDBACK, mlp=FEEDBACK, embed=FEEDBACK, calibration=TrainingBatches(batches_read=3))


def work(place: Place, data: Dataset, path: Path) -> dict[str, Any]:
    """Some numbers of the Hessians of an untrained model, and what export leaves."""
    session = tiny_session(replace(tiny_run(steps=4), quant=QUANT), data, path, place)
    hessians = calibrate(session, fresh_model(session.run, place)).hessians
    result = execute(session)
    told = {name: [float(h.trace()), float(h.sum()), float(h[0, -1])] for name, h in sorted(hessians.items())}
    return {
        "hessians": told,
        "bytes": result.artifact_bytes,
        "export": result.val_bpb_export,
        "train": result.train_seconds,
    }


def one_rank(rank: int, port: int, data: Dataset, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with placed("cpu") as place:
        (folder / f"{rank}.json").write_text(json.dumps(work(place, data, folder / "ranks")))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    data = tiny_dataset(folder / "data")  # once, before the ranks: both would write the same files
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if not child:
            one_rank(rank, port, data, folder)
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    alone = work(Place(torch.device("cpu")), data, folder / "alone")
    print(json.dumps({"codes": codes, "ranks": ranks, "alone": alone}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
