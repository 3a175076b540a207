"""Known races of livekit-agents."""

from __future__ import annotations

from race_watch.signatures.record import Form, Match, Signature

_TOO_EARLY = "cannot access local participant before connecting"
_GETTER = "livekit/rtc/room.py:local_participant"

SIGNATURES = (
    Signature(
        id="inference-sid-preconnect",
        title="The inference headers read the agent's sid before the room was connected",
        package="livekit-agents",
        upstream="livekit/agents#5947",
        advice="Upgrade livekit-agents to 1.5.17 or newer: no published release has this, only a checkout of early June 2026. "
        "With an own caller, await ctx.connect() first.",
        forms=(
            Form(
                "use_before_connect",
                "sdk",
                ">=1.5.16,<1.5.17",
                "1.5.17",
                Match(
                    exception="Exception",
                    message=_TOO_EARLY,
                    frames=(
                        "livekit/agents/inference/_utils.py:get_inference_headers",
                        "livekit/agents/job.py:agent",
                        _GETTER,
                    ),
                ),
            ),
        ),
        matching=(
            {
                "category": "use_before_connect",
                "exception": "Exception",
                "message": _TOO_EARLY,
                "frames": (
                    "livekit/agents/inference/_utils.py:get_inference_headers:41",
                    "livekit/agents/job.py:agent:392",
                    f"{_GETTER}:232",
                ),
            },
        ),
        other=(
            {
                "category": "use_before_connect",
                "exception": "Exception",
                "message": _TOO_EARLY,
                "frames": ("app/agent.py:entrypoint:20", f"{_GETTER}:232"),
            },
        ),
    ),
    Signature(
        id="roomio-preconnect-text-output",
        title="AgentSession.start() with a participant identity ran before the room was connected",
        package="livekit-agents",
        upstream="",
        advice="Await ctx.connect() (or room.connect()) before session.start() when RoomOptions has a participant_identity. "
        "No release fixes it.",
        forms=(
            Form(
                "use_before_connect",
                "sdk",
                "",
                None,
                Match(
                    exception="Exception",
                    message=_TOO_EARLY,
                    frames=("livekit/agents/voice/room_io/_output.py:set_participant", _GETTER),
                ),
            ),
        ),
        matching=(
            {
                "category": "use_before_connect",
                "exception": "Exception",
                "message": _TOO_EARLY,
                "frames": (
                    "app/agent.py:entrypoint:20",
                    "livekit/agents/voice/room_io/_output.py:set_participant:301",
                    f"{_GETTER}:232",
                ),
            },
        ),
        other=(
            {
                "category": "use_before_connect",
                "exception": "Exception",
                "message": _TOO_EARLY,
                "frames": ("livekit/agents/job.py:agent:392", f"{_GETTER}:232"),
            },
        ),
    ),
    Signature(
        id="job-signals-lost-in-forkserver",
        title="A job was ended by a signal that it is meant to ignore or to handle",
        package="livekit-agents",
        upstream="livekit/agents#7336",
        advice="Send SIGTERM to the worker's main process only, never to its process group: under the forkserver its jobs do "
        "not ignore it. No release fixes it.",
        forms=tuple(
            Form(
                "process_killed",
                "sdk",
                "",
                None,
                Match(evidence=(("reason", "terminated"), ("signal", name), ("job_start", "fork"))),
            )
            for name in ("SIGTERM", "SIGUSR1")
        ),
        matching=(
            {
                "category": "process_killed",
                "evidence": {"reason": "terminated", "signal": "SIGTERM", "job_start": "fork", "phase": "idle"},
            },
            {
                "category": "process_killed",
                "evidence": {"reason": "terminated", "signal": "SIGUSR1", "job_start": "fork", "phase": "idle"},
            },
        ),
        other=(
            {
                "category": "process_killed",
                "evidence": {"reason": "supervisor_kill", "signal": "SIGUSR1", "job_start": "fork"},
            },
            {"category": "process_killed", "evidence": {"reason": "terminated", "signal": "SIGTERM", "job_start": "spawn"}},
        ),
    ),
    Signature(
        id="panic-ends-thread-executor",
        title="Native code ended a worker that runs its jobs in threads: every job went with it",
        package="livekit-agents",
        upstream="",
        advice="Use JobExecutorType.PROCESS, where a native abort ends one job: with THREAD it ends them all.",
        forms=(Form("native_abort", "native", "", None, Match(evidence=(("executor", "thread"),))),),
        matching=(
            {"category": "native_abort", "evidence": {"reason": "native_abort", "signal": "SIGABRT", "executor": "thread"}},
        ),
        other=({"category": "native_abort", "evidence": {"reason": "native_abort", "signal": "SIGABRT"}},),
    ),
)
