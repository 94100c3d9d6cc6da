"""Loading and unloading the models of a running Triton that is in explicit model control."""

from collections.abc import Iterator
from contextlib import contextmanager

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from deploy.errors import ModelNotLoaded

# A GPU's engines may be built while a model loads, which takes minutes.
LOAD_SECONDS = 600
ANSWER_SECONDS = 10


def load(url: str, model: str) -> None:
    """Load a model, an ensemble with its steps; what is loaded already is loaded anew.

    Raises:
        ModelNotLoaded: Triton says no, or is away.
    """
    with _client(url, f"load {model}") as client:
        client.load_model(model, client_timeout=LOAD_SECONDS)


def unload(url: str, model: str) -> None:
    """Unload a model, an ensemble with its steps; one that is not loaded is left so.

    Triton finishes what it has accepted, and frees the model after that.

    Raises:
        ModelNotLoaded: Triton says no, or is away.
    """
    with _client(url, f"unload {model}") as client:
        client.unload_model(model, unload_dependents=True, client_timeout=ANSWER_SECONDS)


def ready(url: str) -> set[str]:
    """Names of the models that are loaded.

    Raises:
        ModelNotLoaded: Triton is away.
    """
    with _client(url, "list its models") as client:
        index = client.get_model_repository_index(client_timeout=ANSWER_SECONDS)
        return {model.name for model in index.models if model.state == "READY"}


@contextmanager
def _client(url: str, asked: str) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(url)
    try:
        yield client
    except InferenceServerException as error:
        reason = (error.message() or "no reason given").strip().splitlines()[0]
        raise ModelNotLoaded(f"Triton does not {asked}: {reason}") from error
    finally:
        client.close()
