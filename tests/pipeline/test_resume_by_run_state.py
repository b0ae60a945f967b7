"""A resume needs the run's id and nothing else: paths, settings, and operators that the run state can name (M6)."""

from __future__ import annotations

import functools
import inspect
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    DefaultPipelineHooks,
    NodeConfig,
    NodeFailedError,
    ResumeWarning,
    Status,
    StreamFactory,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.llm import Budget, Endpoint, LLMOperator, Prices
from llm_datagen.messages import Cancel, Reconfigure
from llm_datagen.operators.references import ref_of
from llm_datagen.runs import RunFolder

from ..kit.support import PATIENCE_SECONDS, Bench, bag, lines, numbered
from .parts import Client, Label, Plain, PlainWith, Scale, add, double, pairs

SECRET = "not-for-any-file"


class Heard(DefaultPipelineHooks):
    def __init__(self) -> None:
        self.logged: list[tuple[str, str, str]] = []

    def on_log(self, cid: str, nid: str, level: str, message: str) -> None:
        self.logged.append((nid, level, message))


def interrupted(bench: Bench, *operators: Any, **settings: Any) -> None:
    """Leave a run that was stopped before its last node was done."""
    bench.give(numbered(9))
    with Label.failing(), pytest.raises(NodeFailedError):
        bench.pipeline([*operators, Label("x")], **settings).create("a").run()


def test_the_paths_may_come_with_create(bench: Bench) -> None:
    """Issue 12, 1.1: the constructor needs neither; what `create()` is given counts."""
    bench.give(numbered(3))
    pipeline = UnifiedPipeline([double], results_dir=bench.folder / "results", log_file=None)
    pipeline.create("a", input_uri=f"jsonl://{bench.input}", output_uri=f"jsonl://{bench.output}")
    assert pipeline.run().status is Status.COMPLETED
    assert [row["n"] for row in lines(bench.output)] == [0, 2, 4]


@pytest.mark.parametrize("name", ["operators", "input_uri", "output_uri"])
def test_what_a_new_run_needs_and_was_not_given_is_named(bench: Bench, name: str) -> None:
    """Issue 12, 1.1: at create(), at run(), and where a new run is drawn; nothing is made on the disk."""
    given: dict[str, Any] = {
        "operators": [double],
        "input_uri": f"jsonl://{bench.input}",
        "output_uri": f"jsonl://{bench.output}",
    }
    del given[name]
    pipeline = UnifiedPipeline(**given, results_dir=bench.folder / "results", log_file=None)
    for step in (pipeline.create, pipeline.run, pipeline.describe):
        with pytest.raises(ConfigError, match=f"{name} is missing.*create"):
            step()
    assert not (bench.folder / "results").exists()


def test_a_resume_needs_no_paths(bench: Bench) -> None:
    """Issue 12, 1.1: as the manual writes it."""
    interrupted(bench, double)
    pipeline = UnifiedPipeline(operators=[double, Label("x")], results_dir=bench.folder / "results", log_file=None)
    assert pipeline.resume("a").run().status is Status.COMPLETED
    assert [row["n"] for row in lines(bench.output)] == [n * 2 for n in range(9)]


def test_other_paths_in_the_code_are_not_used_and_that_is_said_three_times(bench: Bench) -> None:
    """Issue 12, 1.1: a warning, a hook, the platform log; the run state's paths are used."""
    interrupted(bench, double)
    other, heard, log = f"jsonl://{bench.folder}/other.jsonl", Heard(), bench.folder / "platform.log"
    pipeline = bench.pipeline([double, Label("x")], output_uri=other, hooks=heard, log_file=log)
    with pytest.warns(ResumeWarning, match=r"goes on with output_uri='jsonl://.*out.*other\.jsonl.*not used") as told:
        pipeline.resume("a")
    assert [warning.filename for warning in told] == [__file__], "it points at who has called resume()"
    pipeline.run()
    assert not Path(f"{bench.folder}/other.jsonl").exists()
    assert len(lines(bench.output)) == 9
    text = str(told[0].message)
    assert (("node_1", "warning", text)) in heard.logged
    noted = [line for line in lines(log) if line["event"] == "[Not Used]"]
    assert [(line["level"], line["node_id"], line["message"]) for line in noted] == [("warning", "node_1", text)]


def test_a_warning_that_is_an_error_leaves_the_run_as_it_was(bench: Bench) -> None:
    """M22: whoever makes errors of warnings has a resume refused, and nothing changed."""
    interrupted(bench, double)
    before = bench.run_state("a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ResumeWarning):
            bench.pipeline([double, Label("x")], input_uri=f"jsonl://{bench.folder}/other.jsonl").resume("a")
    assert bench.run_state("a") == before


def test_the_same_path_in_other_words_is_no_other_path(bench: Bench) -> None:
    """Issue 12, 1.1: links, dots and relative paths."""
    interrupted(bench, double)
    spelled = f"jsonl://{bench.folder}/./x/../{bench.input.name}"
    pipeline = bench.pipeline([double, Label("x")], input_uri=spelled, output_uri=os.path.relpath(bench.output))
    assert pipeline.resume("a").run().status is Status.COMPLETED


def test_nodes_that_the_code_wires_otherwise_are_told_of(bench: Bench) -> None:
    """A sibling: a UnifiedNodePipeline."""
    bench.give(numbered(3))

    def pipeline(output: str) -> UnifiedNodePipeline:
        node = UnifiedNode("n", follow_input=False).bind_io(
            f"jsonl://{bench.input}", f"jsonl://{bench.folder}/{output}"
        )
        return UnifiedNodePipeline([node.set_operator(double)], results_dir=bench.folder / "results", log_file=None)

    pipeline("out.jsonl").create("a")
    with pytest.warns(ResumeWarning, match=r"output_uri=.*out\.jsonl.*other\.jsonl"):
        again = pipeline("other.jsonl").resume("a")
    again.run()
    assert len(lines(bench.folder / "out.jsonl")) == 3


def test_operators_that_the_run_state_can_name_are_made_again(bench: Bench) -> None:
    """Issue 12, 1.1: functions, partials, classes with their arguments, dataclasses; exactly as they were."""
    operators = [
        double,
        functools.partial(add, by=3),
        Label("é", kinds=("a", "b"), extra={"k": [1, 2.5, None, True]}),
        Scale(1.5),
        Plain(),
    ]
    interrupted(bench, *operators)
    refs = [entry["operator_ref"] for entry in bench.run_state("a")["nodes"]]
    assert refs[0]["use"] == f"{double.__module__}:double"
    pipeline = UnifiedPipeline(results_dir=bench.folder / "results", log_file=None).resume("a")
    assert [ref_of(node.operator) for node in pipeline.nodes] == refs
    assert pipeline.run().status is Status.COMPLETED
    wanted = {
        "label": ["x", [], None],
        "scaled": [(n * 2 + 3) * 1.5 for n in range(9)],
        "n": [n * 2 + 3 for n in range(9)],
    }
    rows = lines(bench.output)
    assert [row["n"] for row in rows] == wanted["n"]
    assert [row["scaled"] for row in rows] == wanted["scaled"]
    assert all(row["label"] == wanted["label"] for row in rows)


def test_a_run_of_nodes_is_made_again_as_well(bench: Bench) -> None:
    """A sibling: whatever made the run, its run state is enough; also of a node with two inputs."""
    bench.give(numbered(4))
    folder = bench.folder
    node = UnifiedNode("n", follow_input=False).set_operator(double)
    (folder / "second.jsonl").write_bytes(bench.input.read_bytes())
    inputs = {"one": f"jsonl://{bench.input}", "two": f"jsonl://{folder}/second.jsonl"}
    node.bind_io(inputs, f"jsonl://{bench.output}")
    UnifiedNodePipeline([node], results_dir=folder / "results", log_file=None).create("a")
    pipeline = UnifiedPipeline(results_dir=folder / "results", log_file=None).resume("a")
    assert [node.node_id for node in pipeline.nodes] == ["n.merge", "n"]
    assert pipeline.run().status is Status.COMPLETED
    assert len(lines(bench.output)) == 8


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        (lambda row: row, "cannot be imported"),
        (functools.partial(lambda row, by: row, by=1), "cannot be imported"),
        (Label("x", extra={"when": Path("a")}), r"extra\.when is a PosixPath, which is no plain data"),
        (Label("x", extra={"n": float("nan")}), "a number that JSON cannot express"),
        (Label("x" * 70_000), "at most 65,536 are kept"),
        (Client(SECRET), "given api_key literally"),
        (Client(api_key=SECRET), "given api_key literally"),
        *(
            (Label("x", extra={each: SECRET}), "literally")
            for each in ("secret_key", "x-api-key", "Cookie", "passcode")
        ),
        (Label("https://user:pw@host/"), "seems to hold a secret"),
        (Label("x", extra={"headers": {"password": SECRET}}), "given password literally"),
        (LLMOperator("{{ n }}", model="m", api_key=SECRET), "api_key literally.*come from the environment"),
        (
            LLMOperator("{{ n }}", endpoints=[{"model": "m", "base_url": "http://h/v1", "api_key": SECRET}]),
            "given api_key literally",
        ),
        (LLMOperator("{{ n }}", endpoints=[Endpoint(model="m", api_key=SECRET)]), "given api_key literally"),
        (PlainWith(1), "does not inherit from BaseOperator"),
    ],
)
def test_what_cannot_be_made_again_is_named_with_what_to_do(bench: Bench, operator: Any, reason: str) -> None:
    """Issue 12, 1.1: which operator, why, and what to pass; no secret gets into the run state."""
    bench.give(numbered(2))
    bench.pipeline([double, operator]).create("a")
    assert SECRET not in (bench.folder / "results" / "a" / "runtime.json").read_text()
    with pytest.raises(ConfigError, match=rf"node_1 \(.*\): .*{reason}.*Give them in the code"):
        UnifiedPipeline(results_dir=bench.folder / "results", log_file=None).resume("a")


def test_a_model_call_whose_key_is_in_the_environment_is_made_again(bench: Bench) -> None:
    """Issue 12, 1.1: prompt, model and output as they were."""
    bench.give(numbered(2))
    asks = LLMOperator("{{ n }}?", model="m", api_key_env="SOME_KEY", params={"max_tokens": 5}, output="reply")
    bench.pipeline([asks]).create("a")
    (node,) = UnifiedPipeline(results_dir=bench.folder / "results", log_file=None).resume("a").nodes
    assert repr(node.operator) == repr(asks)
    assert ref_of(node.operator) == ref_of(asks)


def test_options_that_are_classes_are_made_again(bench: Bench) -> None:
    """As dicts with their names are: `resume ID` needs no code."""
    prices = Prices(input=1, output=2, cached_input=0.5)
    endpoint = Endpoint(model="m", base_url="http://127.0.0.1:1/v1", weight=2, prices=prices, params={"top_p": 0.5})
    budget = Budget(usd=0.5, image_tokens=9)
    pool = LLMOperator("{{ n }}", endpoints=[endpoint], budget=budget, params={"max_tokens": 9})
    label = Label("x", extra={"budget": budget, "of": (prices,)})
    bench.give(numbered(2))
    bench.pipeline([label, pool]).create("a")
    one, other = UnifiedPipeline(results_dir=bench.folder / "results", log_file=None).resume("a").nodes
    assert one.operator.extra == label.extra, "what they are, within other arguments, too"
    assert other.operator.endpoints == (endpoint,)
    assert other.operator.budget == budget
    assert other.operator.fingerprint() == pool.fingerprint()
    as_dicts = {"model": "m", "weight": 2, "params": {"top_p": 0.5}, "base_url": "http://127.0.0.1:1/v1"}
    assert LLMOperator("{{ n }}", endpoints=[as_dicts], params={"max_tokens": 9}).fingerprint() == pool.fingerprint()


def test_the_run_state_of_an_earlier_version_is_resumed_with_operators_only(bench: Bench) -> None:
    """Formats are a promise: one without references is read, and says so."""
    interrupted(bench, double)
    run_state = bench.run_state("a")
    for entry in run_state["nodes"]:
        del entry["operator_ref"]
    bench.put_run_state("a", run_state)
    with pytest.raises(ConfigError, match=r"node_0 \(double\): the run state does not say how it was made"):
        UnifiedPipeline(results_dir=bench.folder / "results", log_file=None).resume("a")
    assert bench.pipeline([double, Label("x")]).resume("a").run().status is Status.COMPLETED


def test_a_function_that_takes_batches_and_has_a_name_of_its_own(bench: Bench) -> None:
    """A sibling: what `FunctionOperator` was told."""
    from llm_datagen import FunctionOperator

    bench.give(numbered(4))
    bench.pipeline([FunctionOperator(pairs, batch=True, name="two")], batch_size=2).create("a")
    pipeline = UnifiedPipeline(results_dir=bench.folder / "results", log_file=None).resume("a")
    (node,) = pipeline.nodes
    assert (node.operator.name, node.operator.batch) == ("two", True)
    pipeline.run()
    assert bag(lines(bench.output)) == bag({**row, "_i": n} for n, row in enumerate(numbered(4)))


def test_classes_of_operators_stay_what_python_makes_of_them() -> None:
    """Signatures, copies and mistakes are as without the note of the arguments."""
    assert list(inspect.signature(Label).parameters) == ["text", "kinds", "extra"]
    assert list(inspect.signature(Scale).parameters) == ["factor"]
    copied = pickle.loads(pickle.dumps(Label("x", kinds=("a",))))
    assert ref_of(copied) == ref_of(Label("x", kinds=("a",)))

    class Bare(Label):
        __init__ = object.__init__

    with pytest.raises(TypeError, match=r"Bare\(\) takes no arguments"):
        Bare("x")


@pytest.mark.filterwarnings("default")
def test_settings_that_the_code_gives_otherwise_are_told_and_not_used(bench: Bench) -> None:
    """12.1.1 and its siblings: a run goes on with its own settings, and who gives others hears of it."""
    interrupted(bench, double, batch_size=2)
    heard = Heard()
    again = bench.pipeline(
        [double, Label("x")],
        batch_size=5,
        parallel_size=1,
        on_error="skip",
        writer_config={"fsync": "never"},
        hooks=heard,
    )
    expected = (
        "run 'a' goes on with batch_size=2, on_error='fail', as its run state says; the code gives batch_size=5, "
        "on_error='skip', which is not used: a resume takes its settings from the run state. resume(on_error=, "
        "max_errors=) changes these, or resume --on-error, --max-errors. For other ones, create another run"
    )
    with pytest.warns(ResumeWarning) as told:
        report = again.resume("a").run()
    assert [str(one.message) for one in told if one.category is ResumeWarning] == [expected]
    assert ("node_0", "warning", expected) in heard.logged
    assert report.status is Status.COMPLETED


@pytest.mark.parametrize("kind", ["line", "node_configs", "by_hand"])
def test_code_that_gives_what_was_changed_since_is_not_warned_of(
    bench: Bench, kind: str, recwarn: pytest.WarningsRecorder
) -> None:
    """M30: whoever changes a rate by `Reconfigure` need not change the code, too; a third value is told of."""
    bench.give(numbered(50))
    results = bench.folder / "results"

    def pipeline(rate: float) -> UnifiedPipeline | UnifiedNodePipeline:
        if kind == "line":
            return bench.pipeline([double], rate=rate)
        if kind == "node_configs":
            return bench.pipeline([double], node_configs=[NodeConfig(rate=rate)])
        node = UnifiedNode("node_0", rate=rate, follow_input=False).bind_io(
            f"jsonl://{bench.input}", f"jsonl://{bench.output}"
        )
        return UnifiedNodePipeline([node.set_operator(double)], results_dir=results, log_file=None)

    run = pipeline(1.0).create("a")
    ref = run.start()
    ref.ask(Reconfigure("node_0", rate=2.0), timeout=PATIENCE_SECONDS)
    ref.ask(Reconfigure("node_0", rate=3.0, parallel_size=4), timeout=PATIENCE_SECONDS)
    ref.tell(Cancel())
    assert run.wait(PATIENCE_SECONDS).status is Status.CANCELED
    assert bench.run_state("a")["nodes"][0]["changed_from"] == {"rate": 1.0, "parallel_size": 1}
    pipeline(1.0).resume("a")
    assert [one for one in recwarn if one.category is ResumeWarning] == []
    with pytest.warns(ResumeWarning, match="goes on with rate=None, .*the code gives rate=5.0"):
        pipeline(5.0).resume("a", rate=0).run()
    assert len(lines(bench.output)) == 50


def test_settings_that_the_code_does_not_give_are_not_told(bench: Bench, recwarn: pytest.WarningsRecorder) -> None:
    interrupted(bench, double, batch_size=2)
    UnifiedPipeline([double, Label("x")], results_dir=bench.folder / "results", log_file=None).resume("a").run()
    assert [one for one in recwarn if one.category is ResumeWarning] == []


@pytest.mark.filterwarnings("default")
def test_settings_that_a_resume_was_told_to_change_are_not_told(bench: Bench, recwarn: pytest.WarningsRecorder) -> None:
    interrupted(bench, double)
    again = bench.pipeline([double, Label("x")], on_error="dead_letter", max_errors=3)
    again.resume("a", on_error="dead_letter", max_errors=3).run()
    bench.pipeline([double, Label("x")], on_error="dead_letter", max_errors=3).resume("a").run()
    assert [str(one.message) for one in recwarn if one.category is ResumeWarning] == []


@pytest.mark.filterwarnings("default")
def test_settings_of_nodes_that_are_wired_by_hand_are_told_as_well(bench: Bench) -> None:
    bench.give(numbered(9))
    StreamFactory.create(f"jsonl://{bench.input}").seal()

    def line(*settings: dict[str, Any]) -> UnifiedNodePipeline:
        nodes = []
        places = [f"jsonl://{place}" for place in (bench.input, bench.folder / "middle.jsonl", bench.output)]
        for number, given in enumerate(settings):
            node = UnifiedNode(f"n{number}", **given).bind_io(places[number], places[number + 1])
            nodes.append(node.set_operator(double))
        return UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=None)

    writer = {"flush_batch_size": 3}
    line({"batch_size": 2}, {"on_error": "skip", "writer_config": writer}).create("a")
    again = line({"batch_size": 5, "parallel_size": 3}, {"on_error": "dead_letter", "ordered": True})
    with pytest.warns(ResumeWarning) as told:
        again.resume("a").run()
    assert [str(one.message) for one in told if one.category is ResumeWarning] == [
        "n0 of run 'a' goes on with parallel_size=1, batch_size=2, as its run state says; the code gives "
        "parallel_size=3, batch_size=5, which is not used: a resume takes its settings from the run state. "
        "resume(parallel_size=, rate=) changes these, or resume --parallel-size, --rate; while it "
        "runs, Reconfigure. For other ones, create another run",
        "n1 of run 'a' goes on with ordered=False, on_error='skip', as its run state says; the code gives "
        "ordered=True, on_error='dead_letter', which is not used: a resume takes its settings from the run state. "
        "resume(on_error=, max_errors=) changes these, or resume --on-error, --max-errors. For other ones, "
        "create another run",
    ]
    assert again.nodes[1].writer_config.flush_batch_size == 3


def test_the_same_nodes_wired_by_hand_are_resumed_without_a_word(bench: Bench) -> None:
    bench.give(numbered(9))
    settings: dict[str, Any] = {
        "batch_size": 2,
        "idle_timeout": 9,
        "data_config": {"nan": "null"},
        "id_scheme": "numeric",
    }
    for go_on in (False, True):
        node = UnifiedNode("n", **settings).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}")
        pipeline = UnifiedNodePipeline([node.set_operator(double)], results_dir=bench.results, log_file=None)
        pipeline.resume("a") if go_on else pipeline.create("a")  # warnings are errors here


@pytest.mark.parametrize("given", [{"id_scheme": "text"}, {"id_scheme": "text", "id_prefix": "sh-"}])
def test_a_resume_with_the_settings_of_its_run_tells_nothing(bench: Bench, given: dict[str, Any]) -> None:
    interrupted(bench, double, **given)
    again = UnifiedPipeline([double, Label("x")], results_dir=bench.folder / "results", log_file=None, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResumeWarning)
        again.resume("a").run()


def test_a_node_of_other_settings_tells_nothing(bench: Bench) -> None:
    bench.give(numbered(3))
    pipeline = bench.pipeline([double, Label("x")], parallel_size=2)
    pipeline.create("a", node_configs=[{"parallel_size": 5}, None])
    again = bench.pipeline([double, Label("x")], parallel_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResumeWarning)
        again.resume("a").run()


def told_of(recorder: pytest.WarningsRecorder) -> list[str]:
    return [str(one.message) for one in recorder if one.category is ResumeWarning]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("resumes", ["resume", "create", "replay"])
@pytest.mark.parametrize(("run", "code"), [(True, False), (False, True)])
def test_another_streaming_of_nodes_wired_by_hand_is_told(
    bench: Bench, recwarn: pytest.WarningsRecorder, run: bool, code: bool, resumes: str
) -> None:
    """Also when it is the default: what counts is whether the code gives it."""
    bench.give(numbered(3))
    StreamFactory.create(f"jsonl://{bench.input}").seal()

    def pipeline(**settings: Any) -> UnifiedNodePipeline:
        node = UnifiedNode("n").bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_operator(double)
        return UnifiedNodePipeline([node], results_dir=bench.results, log_file=None, **settings)

    pipeline(streaming=run).create("a").run()
    pipeline().resume("a")
    assert told_of(recwarn) == [], "nothing was given"
    again = pipeline(**({} if resumes == "create" else {"streaming": code}))
    if resumes == "create":
        again.create("a", if_exists="resume", streaming=code)
    else:
        getattr(again, resumes)("a")
    (told,) = told_of(recwarn)
    assert told.startswith(
        f"run 'a' goes on with streaming={run}, as its run state says; the code gives streaming={code},"
    )
    assert again.streaming is run


def test_a_resume_does_not_change_how_the_next_run_of_the_same_object_goes(bench: Bench) -> None:
    """A sibling: `create()` took the `streaming` of the run that was resumed before."""
    bench.give(numbered(3))

    def pipeline(output: str, **settings: Any) -> UnifiedNodePipeline:
        node = UnifiedNode("n", follow_input=False).set_operator(double)
        node.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.folder}/{output}")
        return UnifiedNodePipeline([node], results_dir=bench.results, log_file=None, **settings)

    pipeline("out.jsonl", streaming=False).create("a")
    again = pipeline("out.jsonl")
    again.resume("a")
    assert again.streaming is False
    again.create("a", if_exists="overwrite")
    assert (again.streaming, bench.run_state("a")["config"]["streaming"]) == (True, True)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("by_create", [True, False])
def test_a_setting_that_is_given_its_default_is_told_as_any_other(
    bench: Bench, recwarn: pytest.WarningsRecorder, by_create: bool
) -> None:
    interrupted(bench, double, batch_size=5, writer_config={"flush_batch_size": 3})
    given: dict[str, Any] = {"batch_size": 1, "writer_config": {"flush_batch_size": 1000}}
    operators: list[Any] = [double, Label("x")]
    again = UnifiedPipeline(operators, results_dir=bench.results, log_file=None, **({} if by_create else given))
    if by_create:
        ends: dict[str, Any] = {"input_uri": f"jsonl://{bench.input}", "output_uri": f"jsonl://{bench.output}"}
        again.create("a", if_exists="resume", **ends, **given)
    else:
        again.resume("a")
    (told,) = told_of(recwarn)
    assert "goes on with batch_size=5, writer_config['flush_batch_size']=3, as its run state says" in told
    assert "the code gives batch_size=1, writer_config['flush_batch_size']=1000" in told


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("by_create", [True, False])
def test_node_configs_that_are_not_used_are_told(
    bench: Bench, recwarn: pytest.WarningsRecorder, by_create: bool
) -> None:
    interrupted(bench, double)
    other = f"jsonl://{bench.folder}/other.jsonl"
    configs: list[Any] = [
        {"batch_size": 4, "writer_config": {"flush_batch_size": 7}},
        NodeConfig(on_error="skip", output_uri=other),
    ]
    if by_create:
        bench.pipeline([double, Label("x")]).create("a", node_configs=configs, if_exists="resume")
    else:
        bench.pipeline([double, Label("x")], node_configs=configs).resume("a")
    first, paths, second = told_of(recwarn)
    assert first.startswith(
        "node_0 of run 'a' goes on with batch_size=1, writer_config['flush_batch_size']=1000, as its run state says; "
        "the code gives batch_size=4, writer_config['flush_batch_size']=7, which is not used"
    )
    assert f"output_uri='jsonl://{bench.output}', as its run state says; the code gives {other!r}" in paths
    assert second.startswith("node_1 of run 'a' goes on with on_error='fail', as its run state says; the code gives")


def test_the_same_node_configs_are_resumed_without_a_word(bench: Bench) -> None:
    bench.give(numbered(3))
    configs: list[Any] = [{"batch_size": 4, "data_config": {"nan": "null"}}, None]
    bench.pipeline([double, Label("x")], node_configs=configs).create("a")
    assert [entry["batch_size"] for entry in bench.run_state("a")["nodes"]] == [4, 1]
    bench.pipeline([double, Label("x")], node_configs=configs).resume("a").run()
    bench.pipeline([double, Label("x")]).create("a", node_configs=configs, if_exists="resume")


def test_a_step_that_was_added_has_the_settings_of_its_own_config(bench: Bench) -> None:
    """A sibling: its run state did not know the step, so that of the code is the only one there is."""
    interrupted(bench, double)
    steps = [double, Scale(2), Label("x")]
    again = bench.pipeline(steps, node_configs=[None, {"batch_size": 4}, None]).resume("a", on_change="rerun")
    assert [node.settings["batch_size"] for node in again.nodes] == [1, 4, 1]
    again.run()
    assert sorted(row["scaled"] for row in lines(bench.output)) == [n * 4 for n in range(9)]


def test_a_resume_may_change_how_many_calls_each_node_makes(bench: Bench) -> None:
    bench.give(numbered(9))
    bench.pipeline([double, double]).create("a", rate=5000)
    pipeline = bench.pipeline([double, double])
    for wrong in ({"parallel_size": 0}, {"rate": -1}, {"parallel_size": "8"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            pipeline.resume("a", **wrong)
    pipeline.resume("a", parallel_size=8)
    assert [(node.settings["parallel_size"], node.settings["rate"]) for node in pipeline.nodes] == [
        (8, 5000),
        (8, 5000),
    ]
    pipeline.resume("a", rate=0)
    assert [(node.settings["parallel_size"], node.settings["rate"]) for node in pipeline.nodes] == [
        (8, None),
        (8, None),
    ]
    pipeline.run()
    assert [(node["parallel_size"], node["rate"]) for node in RunFolder(bench.results, "a").load()["nodes"]] == [
        (8, None),
        (8, None),
    ]
    assert sorted(row["n"] for row in lines(bench.output)) == [4 * n for n in range(9)]
