"""Advice for each error code of `workers/errors.py`."""

_LOOK = "the file is damaged: replace it, then geotag run; a retry does not help"
_LATER = "often temporary: check with geotag doctor, then geotag retry"

ADVICE = {
    "empty": "the object has no bytes: upload it again, then geotag run",
    "not_an_image": "the content is not an image: a retry does not help; geotag archive add"
    " --exclude skips such keys",
    "unsupported_format": "convert the file to a supported format; a retry does not help",
    "truncated": "the upload was probably interrupted: upload it again, then geotag run",
    "corrupt": _LOOK,
    "too_many_bytes": "raise GEOTAG_MAX_BYTES for the workers, then geotag retry",
    "too_many_pixels": "raise GEOTAG_MAX_PIXELS for the workers, then geotag retry",
    "decode_timeout": "raise GEOTAG_DECODE_SECONDS for the workers, then geotag retry",
    "object_missing": "the object was deleted: geotag run of its archive marks it as vanished",
    "object_changed": "the object was replaced: geotag run of its archive plans the new version",
    "object_forbidden": "grant the archive's credential s3:GetObject on it, then geotag retry",
    "bucket_unknown": "check bucket and endpoint with geotag archive show, then geotag retry",
    "endpoint_refused": "check the endpoint with geotag archive show; if it is right, register the"
    " archive again, then geotag retry",
    "redirected": "register the archive with the region or endpoint that the message names,"
    " then geotag retry",
    "inference_refused": "the message names the failed step: repair the release, then geotag retry",
    "worker_killed": "quarantined: check the file, give the workers more memory, then geotag retry",
    "internal_error": "a bug in geotag: the worker's log has the traceback; please report it",
    "s3_unavailable": _LATER,
    "credential_refused": "correct the archive's credential, then geotag retry",
    "triton_unavailable": _LATER,
    "triton_malformed": "Triton serves another model under the release's name: geotag releases"
    " activate NAME loads the right one; then geotag retry",
    "triton_timeout": "raise GEOTAG_TRITON_TIMEOUT or add a Triton server, then geotag retry",
    "release_not_served": "geotag releases list shows which releases are served; then geotag retry",
    "content_busy": _LATER,
    "database_unavailable": _LATER,
    "worker_stopping": _LATER,
}


def advice(code: str) -> str:
    """Return the advice for a code; a general one for an unknown code."""
    return ADVICE.get(code, "geotag show KEY has the details; docs/results.md lists the codes")
