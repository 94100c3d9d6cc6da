"""Load and unload the models of a running Triton in explicit model control mode."""

from collections.abc import Iterator
from contextlib import contextmanager

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from deploy.errors import ModelNotLoaded

# Loading may build a GPU's engines, which takes minutes.
LOAD_SECONDS = 600
ANSWER_SECONDS = 10


def load(url: str, model: str) -> None:
    """Load a model, and the steps of an ensemble. A model that is loaded is reloaded.

    Raises:
        ModelNotLoaded: Triton refuses, or does not answer.
    """
    with _client(url, f"load {model}") as client:
        client.load_model(model, client_timeout=LOAD_SECONDS)


def unload(url: str, model: str) -> None:
    """Unload a model, and the steps of an ensemble. Nothing happens if it is not loaded.

    Triton completes the requests that it has accepted before it frees the model.

    Raises:
        ModelNotLoaded: Triton refuses, or does not answer.
    """
    with _client(url, f"unload {model}") as client:
        client.unload_model(model, unload_dependents=True, client_timeout=ANSWER_SECONDS)


def ready(url: str) -> set[str]:
    """Return the names of the loaded models.

    Raises:
        ModelNotLoaded: Triton does not answer.
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
