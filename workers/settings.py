"""The settings that the workers need: archive, photo limits, Triton, broker, chunks."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class WorkerSettings(BaseSettings):
    """Read from environment variables prefixed `GEOTAG_` (`geotag/settings.py` adds the files)."""

    model_config = SettingsConfigDict(env_prefix="GEOTAG_", extra="ignore")

    s3_endpoint: str | None = Field(
        None, description="URL of the S3 service; empty for AWS itself."
    )
    s3_region: str = Field("us-east-1", description="Region that requests are signed for.")
    s3_access_key: str | None = Field(
        None, description="Access key; empty to use boto3's default chain (profile, role, …)."
    )
    s3_secret_key: SecretStr | None = Field(None, description="Secret key of that access key.")
    s3_timeout: float = Field(
        30.0,
        gt=0,
        description="Longest silence in seconds, before an S3 answer begins or between two reads of"
        " its body; 5 at most for connecting. It does not bound the whole body: see"
        " GEOTAG_S3_LEAST_RATE.",
    )
    s3_least_rate: int = Field(
        8 * 2**10,
        ge=1,
        description="Least average rate of an S3 body, in bytes per second, counted after the first"
        " GEOTAG_S3_TIMEOUT seconds. A slower request is aborted and retried. Keep it far below the"
        " rate of any real link, even one that many workers share.",
    )
    s3_tries: int = Field(4, ge=1, description="Tries of one S3 request, with back-off.")

    max_bytes: int = Field(
        200 * 2**20, gt=0, description="Largest object, in bytes; larger ones are not downloaded."
    )
    max_pixels: int = Field(
        250_000_000, gt=0, description="Largest picture, in pixels; larger ones are not decoded."
    )
    decode_seconds: float = Field(30.0, gt=0, description="Longest time for decoding one picture.")

    triton_url: str = Field("127.0.0.1:8001", description="Triton's gRPC address, host:port.")
    triton_timeout: float = Field(60.0, gt=0, description="Deadline of one inference, seconds.")

    broker_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Broker: redis:// (Valkey) or amqp:// (RabbitMQ, quorum queues).",
    )
    chunk_size: int = Field(32, ge=1, le=256, description="Objects in one message.")
    most_vanished: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Largest share of an archive that one listing or inventory marks as vanished."
        " If it lacks more than that, and more than 100 objects, none is marked, and the run says"
        " so; geotag run --allow-vanish marks them.",
    )
    in_flight: int = Field(8, ge=1, le=64, description="Objects a worker process works on at once.")
    transient_tries: int = Field(
        6, ge=1, description="Tries of a chunk's transient failures before they are recorded."
    )
    crash_tries: int = Field(
        3, ge=1, description="Attempts that end with a dead worker before an object is quarantined."
    )
    visibility_timeout: int = Field(
        120,
        ge=10,
        description="Seconds after which Valkey delivers a chunk again if its worker's machine or"
        " parent process has died. (RabbitMQ does so at once.) Live workers renew the time-out, so"
        " a chunk may take longer.",
    )
    log_format: Literal["json", "text"] | None = Field(
        None,
        description="Format of workers' log lines: json or text. By default text on a terminal and"
        " JSON elsewhere.",
    )
    most_queued: int = Field(
        256,
        ge=1,
        le=1000,
        description="Most backfill chunks at the broker or with workers. The others wait in the"
        " ledger. Set a few per worker process: a new run's first chunk queues behind them.",
    )
    tick_seconds: float = Field(
        5.0,
        gt=0,
        description="Seconds between two ticks of the control loop (`geotag beat`), which starts"
        " due schedules, publishes chunks and finds lost ones.",
    )
    lost_after: float = Field(
        30.0,
        gt=0,
        description="Seconds after which a chunk that no worker has begun is published again, if"
        " the broker has fewer messages than the ledger expects.",
    )
    patience: float = Field(
        30.0,
        gt=0,
        description="Seconds that a worker waits for an unavailable service before it hands its"
        " chunk back to the queue. The wait counts as no failure.",
    )
    shutdown_grace: float = Field(
        20.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds that a worker has after SIGTERM to finish its chunk. Unfinished"
        " objects then go back to the queue.",
    )
