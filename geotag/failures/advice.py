"""Advice for each error code (`workers/errors.py` has the tree)."""

_LOOK = "the file is damaged: look at it; nothing to retry"
_LATER = "it may have passed: geotag doctor, then geotag retry"

ADVICE = {
    "empty": "the object has no bytes: upload it again, then geotag run",
    "not_an_image": "no image, whatever its name says: nothing to retry; archive --exclude leaves"
    " such keys out",
    "unsupported_format": "convert it, or leave it: nothing to retry",
    "truncated": "the upload may have been cut off: upload it again, then geotag run",
    "corrupt": _LOOK,
    "too_many_bytes": "raise GEOTAG_MAX_BYTES for the workers, then geotag retry",
    "too_many_pixels": "raise GEOTAG_MAX_PIXELS for the workers, then geotag retry",
    "decode_timeout": "raise GEOTAG_DECODE_SECONDS for the workers, then geotag retry",
    "object_missing": "it is gone: geotag run of its archive notices what vanished",
    "object_changed": "it has a newer version: geotag run of its archive takes that up",
    "object_forbidden": "grant the archive's credential s3:GetObject on it, then geotag retry",
    "bucket_unknown": "geotag archive show says where it is looked for; then geotag retry",
    "endpoint_refused": "geotag archive show has the endpoint; register it again if it is right,"
    " then geotag retry",
    "redirected": "the message names where to: register the archive with that region or endpoint,"
    " then geotag retry",
    "inference_refused": "the message names the model's step; mend the release, then geotag retry",
    "worker_killed": "in quarantine: look at the file, give the workers more memory, then"
    " geotag retry",
    "internal_error": "a fault of ours: the worker's log has the traceback; please report it",
    "s3_unavailable": _LATER,
    "credential_refused": "mend the archive's credential, then geotag retry",
    "triton_unavailable": _LATER,
    "triton_malformed": "Triton serves another model under the release's name: geotag releases"
    " activate NAME serves it anew; then geotag retry",
    "triton_timeout": "raise GEOTAG_TRITON_TIMEOUT or add a Triton, then geotag retry",
    "release_not_served": "geotag releases list says which releases are served; then geotag retry",
    "content_busy": _LATER,
    "database_unavailable": _LATER,
    "worker_stopping": _LATER,
}


def advice(code: str) -> str:
    """Return the advice for a code; codes of other versions get a general one."""
    return ADVICE.get(code, "geotag show KEY says more; docs/results.md lists the codes")
