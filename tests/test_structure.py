"""The package keeps its structure, and every rule that says so is shown to be able to fail."""

from collections.abc import Callable
from pathlib import Path

import pytest
import structure_rules as rules

RULES = [
    rules.imports_point_down,
    rules.ours_is_imported_by_name,
    rules.no_import_cycle,
    rules.no_name_is_defined_twice,
    rules.module_level_only_defines,
    rules.environment_is_read_at_the_edges,
    rules.nothing_goes_by_parameter_names,
    rules.sizes_stay_under_the_walls,
    rules.everything_public_is_documented,
    rules.no_error_is_swallowed,
    rules.nothing_loads_code,
    rules.no_path_of_a_machine,
    rules.scored_is_made_in_one_place,
    rules.techniques_are_frozen_and_at_home,
]
Rule = Callable[[rules.Package], list[str]]


@pytest.fixture(scope="module")
def package() -> rules.Package:
    return rules.package_on_disk(Path(__file__).parent.parent / "paramgolf")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule: Rule, package: rules.Package) -> None:
    broken = rule(package)
    assert not broken, "\n" + "\n".join(broken)


def test_the_package_was_found(package: rules.Package) -> None:
    assert ("optim", "muon") in package
    assert len(package) > 10


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule.__name__ for rule in RULES} == {rule.__name__ for rule, _ in PLANTED}


def loop(body: str, over: str = "model.named_parameters()") -> str:
    return f"def f(model):\n    for name, p in {over}:\n        {body}\n"


OTHERS = {"optim/muon.py": "", "model/gpt.py": "", "run.py": "", "parts.py": "", "registry.py": "", "errors.py": ""}
SCORE = 'def score():\n    """."""\n    return Scored(1)\n'
PLANTED: list[tuple[Rule, dict[str, str]]] = [
    (rules.imports_point_down, {"optim/x.py": "from paramgolf.model.gpt import GPT"}),
    (rules.imports_point_down, {"optim/x.py": "from paramgolf.model import gpt"}),
    (rules.imports_point_down, {"optim/x.py": "def f():\n    from paramgolf.model.gpt import GPT"}),
    (rules.imports_point_down, {"model/x.py": "from paramgolf.techniques.model.xsa import XSA"}),
    (rules.imports_point_down, {"techniques/model/x.py": "from paramgolf.optim.muon import Muon"}),
    (rules.imports_point_down, {"techniques/model/x.py": "from paramgolf.techniques.optim.y import Y"}),
    (rules.imports_point_down, {"techniques/model/x.py": "from paramgolf.run import Run"}),
    (rules.imports_point_down, {"parts.py": "from paramgolf.model.gpt import GPT"}),
    (rules.imports_point_down, {"errors.py": "from paramgolf.registry import nearest"}),
    (rules.imports_point_down, {"registry.py": "from paramgolf.parts import Role"}),
    (rules.imports_point_down, {"train/loop.py": "from paramgolf.run import Run"}),
    (rules.imports_point_down, {"run.py": "from paramgolf.presets.baseline import baseline"}),
    (rules.imports_point_down, {"lab/x.py": "from paramgolf.cli.run import main"}),
    (rules.imports_point_down, {"lab/x.py": "from paramgolf.bundle.y import y"}),
    (rules.imports_point_down, {"presets/x.py": "from paramgolf.lab.ledger import Ledger"}),
    (rules.imports_point_down, {"optim/x.py": "from paramgolf import Run"}),
    (rules.ours_is_imported_by_name, {"optim/x.py": "import paramgolf.optim.muon"}),
    (rules.ours_is_imported_by_name, {"optim/x.py": "import paramgolf.optim.muon as m"}),
    (rules.ours_is_imported_by_name, {"optim/x.py": "from .muon import Muon"}),
    (rules.ours_is_imported_by_name, {"optim/x.py": "from paramgolf.optim.muon import Muon as M"}),
    (rules.ours_is_imported_by_name, {"optim/x.py": "from paramgolf.optim.muon import *"}),
    (rules.ours_is_imported_by_name, {"optim/x.py": "from paramgolf import optim"}),
    (
        rules.no_import_cycle,
        {
            "optim/a.py": "from paramgolf.optim.b import b",
            "optim/b.py": "from paramgolf.optim.c import c",
            "optim/c.py": "def f():\n    from paramgolf.optim.a import a",
        },
    ),
    (
        rules.no_import_cycle,
        {"cli/__init__.py": "from paramgolf.cli.a import a", "cli/a.py": "from paramgolf.cli import b"},
    ),
    (rules.no_name_is_defined_twice, {"optim/a.py": "def clip(): ...", "model/b.py": "clip = 1"}),
    (rules.no_name_is_defined_twice, {"optim/a.py": "class A: ...", "lab/b.py": "if 1:\n    A: int = 1"}),
    (rules.no_name_is_defined_twice, {"optim/a.py": "_helper, x = 1, 2", "lab/b.py": "def _helper(): ..."}),
    (rules.module_level_only_defines, {"optim/x.py": "print('hello')"}),
    (rules.module_level_only_defines, {"optim/x.py": "table = open('x').read()"}),
    (rules.module_level_only_defines, {"optim/x.py": "for i in range(3):\n    pass"}),
    (rules.module_level_only_defines, {"optim/x.py": "if torch.cuda.is_available():\n    x = 1"}),
    (rules.module_level_only_defines, {"optim/x.py": "try:\n    import y\nexcept ImportError:\n    warn('no y')"}),
    (rules.module_level_only_defines, {"optim/x.py": "if __name__ == '__main__':\n    pass"}),
    (rules.module_level_only_defines, {"optim/x.py": "x = 1\nx += 1"}),
    (rules.module_level_only_defines, {"optim/x.py": "class A:\n    x = load()"}),
    (rules.module_level_only_defines, {"optim/x.py": "class A:\n    print(1)"}),
    (rules.module_level_only_defines, {"optim/x.py": "x = (lambda: 1, load())"}),
    (rules.environment_is_read_at_the_edges, {"train/loop.py": "import os\ndef f(): return os.environ['RANK']"}),
    (rules.environment_is_read_at_the_edges, {"run.py": "import os\ndef f(): return os.getenv('HOME')"}),
    (rules.environment_is_read_at_the_edges, {"run.py": "from os import environ"}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("if 'embed' in name: pass")}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("if name.endswith('gate'): pass")}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("if name.startswith(PREFIX): pass")}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("if name.startswith(('a', 'b')): pass")}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("if name == 'embed.weight': pass")}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("leaf = name.split('.')[-1]\n        leaf == 'gate'")}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("if name in ('a', 'b'): pass")}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("re.search('attn', name)")}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("any(k.startswith('q') for k in model.state_dict())")}),
    (rules.nothing_goes_by_parameter_names, {"quant/x.py": loop("'mlp' in name", "weights.items()")}),
    (
        rules.nothing_goes_by_parameter_names,
        {"quant/x.py": "def f(model):\n    return [d for d in declared(model) if 'mlp' in d.name]"},
    ),
    (
        rules.nothing_goes_by_parameter_names,
        {"quant/x.py": "def f(name: str, weight: Tensor):\n    return name.startswith('tok')"},
    ),
    (rules.sizes_stay_under_the_walls, {"optim/x.py": "x = 1\n" * 401}),
    (rules.sizes_stay_under_the_walls, {"optim/x.py": "def f():\n" + "    x = 1\n" * 80}),
    (rules.sizes_stay_under_the_walls, {"optim/x.py": "def f(a, b, c, d, /, e, f, *, g, h): ..."}),
    (rules.everything_public_is_documented, {"optim/x.py": "x = 1"}),
    (rules.everything_public_is_documented, {"optim/x.py": '"""."""\ndef f(): ...'}),
    (rules.everything_public_is_documented, {"optim/x.py": '"""."""\ndef _f():\n    class A: ...'}),
    (rules.no_error_is_swallowed, {"optim/x.py": "try:\n    f()\nexcept Exception as error:\n    raise"}),
    (rules.no_error_is_swallowed, {"optim/x.py": "try:\n    f()\nexcept:\n    raise"}),
    (rules.no_error_is_swallowed, {"optim/x.py": "try:\n    f()\nexcept (OSError, BaseException):\n    pass"}),
    (rules.no_error_is_swallowed, {"optim/x.py": "with contextlib.suppress(Exception):\n    f()"}),
    (rules.nothing_loads_code, {"optim/x.py": "import pickle"}),
    (rules.nothing_loads_code, {"optim/x.py": "def f():\n    from pickle import loads"}),
    (rules.nothing_loads_code, {"optim/x.py": "def f(path):\n    return torch.load(path, weights_only=True)"}),
    (rules.nothing_loads_code, {"optim/x.py": "from torch import load"}),
    (rules.nothing_loads_code, {"optim/x.py": "def f(path):\n    return np.load(path, allow_pickle=True)"}),
    (rules.no_path_of_a_machine, {"optim/x.py": '"""Reads /' + 'home/someone/shards."""'}),
    (rules.no_path_of_a_machine, {"optim/x.py": "OUT = '/" + "tmp/x'"}),
    (rules.no_path_of_a_machine, {"optim/x.py": "OUT = Path('..' '/' 'x')  # .." + "/elsewhere"}),
    (rules.scored_is_made_in_one_place, {"evaluate/score.py": SCORE, "evaluate/x.py": "def f(): return Scored(2)"}),
    (rules.scored_is_made_in_one_place, {"evaluate/score.py": SCORE + SCORE}),
    (rules.scored_is_made_in_one_place, {"evaluate/score.py": SCORE, "run.py": "x = Scored._make((1,))"}),
    (rules.scored_is_made_in_one_place, {"evaluate/score.py": "x = 1"}),
    (
        rules.techniques_are_frozen_and_at_home,
        {"techniques/model/x.py": "@technique('x', fills='model.y')\n@dataclass(kw_only=True)\nclass X: ..."},
    ),
    (
        rules.techniques_are_frozen_and_at_home,
        {
            "techniques/model/x.py": (
                "@technique('x', fills='optim.y')\n@dataclass(frozen=True, kw_only=True)\nclass X: ..."
            )
        },
    ),
]


@pytest.mark.parametrize(("rule", "files"), PLANTED)
def test_a_planted_violation_is_found(rule: Rule, files: dict[str, str]) -> None:
    assert rule(rules.parsed(OTHERS)) == []
    assert rule(rules.parsed({**OTHERS, **files}))


FINE: list[tuple[Rule, dict[str, str]]] = [
    (rules.imports_point_down, {"techniques/optim/x.py": "from paramgolf.optim.muon import Muon"}),
    (rules.imports_point_down, {"run.py": "from paramgolf.optim.muon import Muon\nfrom paramgolf.parts import Role"}),
    (rules.imports_point_down, {"cli/x.py": "from paramgolf import __version__\nfrom paramgolf.run import Run"}),
    (rules.imports_point_down, {"presets/x.py": "from paramgolf.techniques.model.xsa import XSA"}),
    (rules.imports_point_down, {"techniques/__init__.py": "from paramgolf.techniques import model as model"}),
    (rules.ours_is_imported_by_name, {"optim/x.py": "from paramgolf.optim.muon import Muon as Muon"}),
    (rules.no_name_is_defined_twice, {"cli/a.py": "def _show(): ...", "cli/b.py": "def _show(): ..."}),
    (rules.no_name_is_defined_twice, {"a.py": "__all__ = []", "b.py": "__all__ = []\nfrom a import c"}),
    (
        rules.module_level_only_defines,
        {
            "x.py": (
                '"""."""\nT = TypeVar("T")\nMAGIC = struct.pack("<i", 1)\nif TYPE_CHECKING:\n    import y\n'
                "try:\n    import z\nexcept ImportError:\n    z = None"
            )
        },
    ),
    (rules.module_level_only_defines, {"__main__.py": "if __name__ == '__main__':\n    sys.exit(main())"}),
    (rules.module_level_only_defines, {"x.py": "TABLE = {'gzip': lambda data: gzip.compress(data)}"}),
    (rules.module_level_only_defines, {"x.py": "class P(Protocol):\n    def f(self): ...\nclass Q(P): ..."}),
    (rules.imports_point_down, {"lab/x.py": "from paramgolf.presets import preset"}),
    (rules.environment_is_read_at_the_edges, {"train/distributed.py": "import os\nx = os.environ"}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("if name in self.specs: pass")}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("model.get_submodule(name.rpartition('.')[0])")}),
    (rules.nothing_goes_by_parameter_names, {"optim/x.py": loop("if p.role == 'embed': pass")}),
    (rules.nothing_goes_by_parameter_names, {"train/x.py": loop("name.startswith(prefix)", "state.items()")}),
    (rules.sizes_stay_under_the_walls, {"optim/x.py": "class A:\n    def f(self, a, b, c, d, e, f, g): ..."}),
    (rules.sizes_stay_under_the_walls, {"cli/x.py": "def f(a, b, c, d, e, f, g, h, i): ..."}),
    (rules.no_error_is_swallowed, {"x.py": "try:\n    f()\nexcept BaseException:\n    clean()\n    raise"}),
    (rules.nothing_loads_code, {"x.py": "def f(path):\n    return np.load(path, allow_pickle=False)"}),
    (rules.no_path_of_a_machine, {"x.py": "URL = 'https://example.org/home/x'  # and/or, runs/tmp/x, a.../b"}),
]


@pytest.mark.parametrize(("rule", "files"), FINE)
def test_what_is_fine_passes(rule: Rule, files: dict[str, str]) -> None:
    assert rule(rules.parsed({**OTHERS, **files})) == []
