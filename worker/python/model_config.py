"""The configuration as models see it, and as their auto_complete_config fills it in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Properties = dict[str, Any]

_INPUT_PROPERTIES = ("name", "data_type", "dims", "optional")
_OUTPUT_PROPERTIES = ("name", "data_type", "dims")


class ModelConfig:
    """A model's configuration, to be completed by its `auto_complete_config`.

    Every method raises ValueError when what the model says contradicts what its author wrote in
    the configuration.
    """

    def __init__(self, model_config: str) -> None:
        config: Properties = json.loads(model_config)
        # Models read these without asking whether they are there.
        config.setdefault("name", "")
        config.setdefault("max_batch_size", 0)
        config.setdefault("input", [])
        config.setdefault("output", [])
        self._model_config = config

    def as_dict(self) -> Properties:
        """The configuration itself, in Triton's JSON form; changes to it count."""
        return self._model_config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Say how large a batch the model can take; the configuration may only ask for less."""
        configured = self._model_config["max_batch_size"]
        if configured > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {configured}, but in "
                f"auto-complete-config function for model '{self._name}' specified "
                f"max_batch_size {max_batch_size}"
            )
        self._model_config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Batch dynamically, unless the configuration already does."""
        for scheduler in ("sequence_batching", "ensemble_scheduling"):
            if scheduler in self._model_config:
                raise ValueError(
                    f"Configuration specified scheduling_choice as '{scheduler}', but "
                    f"auto-complete-config function for model '{self._name}' tries to set "
                    "scheduling_choice as 'dynamic_batching'"
                )
        self._model_config.setdefault("dynamic_batching", {})

    def add_input(self, input: Properties) -> None:
        """Add an input, or complete the one of that name: name, data_type, dims, optional."""
        self._add("input", input, _INPUT_PROPERTIES)

    def add_output(self, output: Properties) -> None:
        """Add an output, or complete the one of that name: name, data_type, dims."""
        self._add("output", output, _OUTPUT_PROPERTIES)

    def set_model_transaction_policy(self, transaction_policy_dict: Mapping[str, Any]) -> None:
        """Say whether the model is decoupled."""
        if any(key != "decoupled" for key in transaction_policy_dict):
            raise ValueError(
                "model transaction property in auto-complete-config function for model "
                f"'{self._name}' contains property other than 'decoupled'."
            )
        policy = self._model_config.setdefault("model_transaction_policy", {})
        if "decoupled" not in transaction_policy_dict:
            return
        decoupled = transaction_policy_dict["decoupled"]
        if policy.get("decoupled", decoupled) != decoupled:
            raise ValueError(
                "trying to change decoupled property in auto-complete-config for model "
                f"'{self._name}', which is already set to '{policy['decoupled']}'."
            )
        policy["decoupled"] = decoupled

    @property
    def _name(self) -> str:
        return str(self._model_config["name"])

    def _add(self, kind: str, tensor: Properties, allowed: tuple[str, ...]) -> None:
        self._check_properties(kind, tensor, allowed)
        tensors: list[Properties] = self._model_config[kind]
        for configured in tensors:
            if configured["name"] == tensor["name"]:
                self._check_agreement(kind, configured, tensor)
                configured.update(tensor)
                return
        tensors.append(tensor)

    def _check_properties(self, kind: str, tensor: Properties, allowed: tuple[str, ...]) -> None:
        where = f"in auto-complete-config function for model '{self._name}'"
        if "name" not in tensor:
            raise ValueError(f"{kind} {where} is missing 'name' property.")
        name = tensor["name"]
        if any(key not in allowed for key in tensor):
            *most, last = (f"'{key}'" for key in allowed)
            raise ValueError(
                f"{kind} '{name}' {where} contains property other than "
                f"{', '.join(most)} and {last}."
            )
        for key in ("data_type", "dims"):
            if key not in tensor:
                raise ValueError(f"{kind} '{name}' {where} is missing '{key}' property.")

    def _check_agreement(self, kind: str, configured: Properties, tensor: Properties) -> None:
        name = tensor["name"]
        data_type = configured.get("data_type", "TYPE_INVALID")
        if data_type not in ("TYPE_INVALID", tensor["data_type"]):
            raise ValueError(
                f"unable to load model '{self._name}', configuration expects datatype {data_type} "
                f"for {kind} '{name}', model provides {tensor['data_type']}"
            )
        for key in ("dims", "optional"):
            wanted = configured.get(key)
            # Empty dims are yet to be filled in; an `optional` that is there was meant.
            given = bool(wanted) if key == "dims" else wanted is not None
            if given and key in tensor and wanted != tensor[key]:
                raise ValueError(
                    f"model '{self._name}', tensor '{name}': the model expects {key} {tensor[key]} "
                    f"but the model configuration specifies {key} {wanted}"
                )


def get_input_config_by_name(model_config: Properties, name: str) -> Properties | None:
    """The configuration of an input, or None when there is none of this name."""
    return _find(model_config, "input", name)


def get_output_config_by_name(model_config: Properties, name: str) -> Properties | None:
    """The configuration of an output, or None when there is none of this name."""
    return _find(model_config, "output", name)


def using_decoupled_model_transaction_policy(model_config: Properties) -> bool:
    """Whether the configuration says that the model is decoupled."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def _find(model_config: Properties, kind: str, name: str) -> Properties | None:
    for tensor in model_config.get(kind, ()):
        if tensor["name"] == name:
            return tensor  # type: ignore[no-any-return]
    return None
