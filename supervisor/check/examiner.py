"""Examines models as they lie in a repository: what loading would refuse, all of it at once.

Every rule is the one that serving goes by; a load stops at the first that is broken, and here the
others are asked too. What only the model itself can tell, when it is loaded, is left open and said.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...ipc.backend_names import BUILT_IN
from ..config import artefacts, defaults, known_parameters
from ..config.labels import version_labels
from ..config.locate import MapKey, Source
from ..config.problems import ConfigurationError, Problem
from ..config.residency import is_on_demand
from ..config.runtime import MODEL_FILE
from ..config.schema import EnsembleStep, ModelConfig
from ..config.validate import advice
from ..environments.place import PARAMETER, PYTHON_PARAMETER, place_of
from ..models.catalogue import Catalogue
from ..models.composition import Composition, not_available, version_not_loaded
from ..models.ensembles import check_composition, composed, is_ensemble, steps_of, version_of
from ..models.identifier import ModelIdentifier
from ..models.load_request import LoadRequest
from ..models.preparation import Plan, Prepared, check, completed, prepare, read_labels
from ..models.registry import Registry
from ..models.traffic import configured_rule
from ..models.warmup import read_samples
from ..repository import agents, versions
from ..repository.layout import ModelOnDisk
from ..settings import Settings
from . import source_code
from .findings import ModelReport, Severity

_UNLESS = ", unless the model mends that itself in auto_complete_config"


class Examiner:
    """Examines the models that a catalogue has found. Its methods block on the disk."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._composition = Composition(Registry(settings.models.namespacing), catalogue)
        self._reports: dict[ModelIdentifier, ModelReport] = {}

    def examine(self, model: ModelIdentifier) -> ModelReport:
        """Everything that is to be said about a model; what it needs is examined with it."""
        report = self._reports.get(model)
        if report is None:
            report = self._reports[model] = ModelReport(model)
            self._examine(report)
        return report

    def _examine(self, report: ModelReport) -> None:
        with report.noting():
            found = self._catalogue.place(report.model)
            for sentence in found.ignored:
                report.add(Severity.WARNING, sentence, file=found.directory)
            self._look_into(report, found)

    def _look_into(self, report: ModelReport, found: ModelOnDisk) -> None:
        config, source = self._read(report, found)
        report.backend = config.backend or config.platform
        with report.noting():
            version_labels(config)
        with report.noting():
            configured_rule(config)
        with report.noting():
            is_on_demand(config, False)
        with report.noting():
            agents.consult(config, found.name, found.directory)
        self._doubt_parameters(report, config, source)
        for number in versions.missing(config.version_policy, found.versions):
            text = f"the version policy names version {number}, which is not there"
            problem = Problem(("version_policy",), text, "make its folder, or leave it out")
            report.add_problems(Severity.WARNING, [problem], source)
        with report.noting():
            report.versions = versions.select(config.version_policy, found.versions, found.name)
        for number in report.versions:
            plan = Plan(
                found.name,
                number,
                found.directory,
                config,
                source,
                namespace=report.model.namespace,
            )
            if is_ensemble(config):
                self._examine_ensemble(report, plan)
            else:
                self._examine_version(report, plan)

    def _read(self, report: ModelReport, found: ModelOnDisk) -> tuple[ModelConfig, Source]:
        """The configuration, also where it breaks rules. Raises what keeps it from being read."""
        try:
            return self._catalogue.config(found)
        except ConfigurationError as error:
            report.add_problems(Severity.ERROR, error.problems, error.source)
            return error.config, error.source

    def _doubt_parameters(self, report: ModelReport, config: ModelConfig, source: Source) -> None:
        problems = [
            Problem(("parameters", MapKey(name)), doubt, "mend its name, or leave it out")
            for name, doubt in known_parameters.doubts(config).items()
        ]
        report.add_problems(Severity.WARNING, problems, source)

    # --- models that a worker runs ----------------------------------------------------------------

    def _examine_version(self, report: ModelReport, plan: Plan) -> None:
        prepared: Prepared | None = None
        with report.noting(plan.version):
            prepared = prepare(plan, self._settings)
        config = prepared.config if prepared is not None else completed(plan.config, plan)
        completes = self._look_at_files(report, plan, config, prepared)
        if prepared is None:
            with report.noting(plan.version):
                check(config, plan)
        elif prepared.is_incomplete:
            severity, unless = (Severity.WARNING, _UNLESS) if completes else (Severity.ERROR, "")
            with report.noting(plan.version, severity, unless):
                check(config, plan)
        report.add_problems(Severity.WARNING, advice(config), plan.source)
        with report.noting(plan.version):
            read_labels(plan, config)
        if not completes and not report.failed:
            with report.noting(plan.version):
                read_samples(config, plan.version, plan.directory)
        report.configs[plan.version] = (config, not completes)

    def _look_at_files(
        self, report: ModelReport, plan: Plan, config: ModelConfig, prepared: Prepared | None
    ) -> bool:
        """Whether the model may complete its configuration; on the way, whether its files are
        there.
        """
        runtime = prepared.runtime.file if prepared is not None else ""
        with report.noting(plan.version):
            place_of(config, plan.directory)
        if config.backend == "python" or runtime:
            return self._look_at_code(report, plan, config, runtime)
        names = [config.default_model_filename] if config.default_model_filename else []
        if config.backend == "pytorch" and config.runtime == MODEL_FILE:
            names = [MODEL_FILE, *(names or ["model.pt"])]
        if config.backend in BUILT_IN and names and not config.cc_model_filenames:
            paths = [os.path.join(plan.version_directory, name) for name in names]
            if artefacts.has_files(config.backend) and not any(map(os.path.exists, paths)):
                report.add(
                    Severity.ERROR,
                    f"version {plan.version} of model '{plan.name}' has no file "
                    f"{' or '.join(names)}",
                    plan.version,
                    file=plan.version_directory,
                    remedy="put it there, or name another one in default_model_filename",
                )
        return prepared is not None and prepared.is_incomplete

    def _look_at_code(
        self, report: ModelReport, plan: Plan, config: ModelConfig, runtime: str
    ) -> bool:
        name = config.default_model_filename or MODEL_FILE
        path = runtime or os.path.join(plan.version_directory, name)
        if not os.path.isfile(path):
            report.add(
                Severity.ERROR,
                f"Python model file not found in '{path}'",
                plan.version,
                file=plan.version_directory,
                remedy="put it there, or name another one in default_model_filename",
            )
            return False
        code = source_code.look(path)
        # Another Python than ours may run it, and understand more.
        foreign = bool({PARAMETER, PYTHON_PARAMETER}.intersection(config.parameters))
        for mistake in code.mistakes:
            severity = Severity.WARNING if foreign else Severity.ERROR
            report.add(severity, mistake.message, plan.version, file=path, line=mistake.line)
        return code.completes and not self._settings.models.strict_config

    # --- ensembles --------------------------------------------------------------------------------

    def _examine_ensemble(self, report: ModelReport, plan: Plan) -> None:
        config = defaults.normalise(plan.config, ())
        report.configs[plan.version] = (config, True)
        with report.noting(plan.version):
            check(config, plan)
        report.add_problems(Severity.WARNING, advice(config), plan.source)
        with report.noting(plan.version):
            read_labels(plan, config)
        with report.noting(plan.version):
            self._composition.load_order(report.model, LoadRequest())
            self._compose(report, plan, config)

    def _compose(self, report: ModelReport, plan: Plan, config: ModelConfig) -> None:
        """Whether the models of its steps fit. Raises StatusError when they do not."""
        needed = self._composition.needed(report.model, config)
        there = set(self._catalogue.identifiers)
        unknown = [one.name for one in needed if one not in there]
        if unknown:
            raise not_available(report.model.name, unknown)
        found = [self._of_step(report, step) for step in steps_of(config)]
        if report.failed or any(one is None for one in found):
            return
        configs = [one[0] for one in found if one is not None]
        is_final = all(one[1] for one in found if one is not None)
        severity, unless = (
            (Severity.ERROR, "")
            if is_final
            else (Severity.WARNING, ", unless the models complete their configurations otherwise")
        )
        with report.noting(plan.version, severity, unless):
            graph = check_composition(config, configs, report.model.namespace)
            report.configs[plan.version] = (composed(config, graph), is_final)

    def _of_step(self, report: ModelReport, step: EnsembleStep) -> tuple[ModelConfig, bool] | None:
        """The configuration of a step's model; None where it cannot be known, which is said."""
        model = self._composition.meant(report.model, step)
        others = self.examine(model)
        if others.failed or not others.configs:
            report.add(
                Severity.ERROR,
                f"ensemble '{report.model.name}' depends on '{model.name}' which has no loaded "
                "version",
                remedy=f"mend '{model.name}' first",
            )
            return None
        version = version_of(step)
        found = others.configs.get(max(others.configs) if version is None else version)
        if found is None:
            with report.noting():
                raise version_not_loaded(report.model.name, model.name, version)
            return None
        config, is_final = found
        if not is_final and not (config.input and config.output):
            report.add(
                Severity.NOTE,
                f"whether it fits '{model.name}' is not known before that is loaded, for it "
                "completes its own configuration",
                remedy="run the check with --load",
            )
            return None
        return found


def examined(
    settings: Settings, catalogue: Catalogue, wanted: Sequence[ModelIdentifier]
) -> list[ModelReport]:
    """The reports of these models, by name. Blocking."""
    examiner = Examiner(settings, catalogue)
    return [examiner.examine(model) for model in sorted(wanted)]
