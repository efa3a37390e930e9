"""The states of a stream."""

from __future__ import annotations

import itertools

import pytest

from tritonpy.supervisor.http2.states import Event, IllegalTransition, State, after

LEGAL = {
    (State.OPEN, Event.CLIENT_ENDED): State.HALF_CLOSED_REMOTE,
    (State.OPEN, Event.SERVER_ENDED): State.HALF_CLOSED_LOCAL,
    (State.HALF_CLOSED_REMOTE, Event.SERVER_ENDED): State.CLOSED,
    (State.HALF_CLOSED_LOCAL, Event.CLIENT_ENDED): State.CLOSED,
    **{(state, Event.RESET): State.CLOSED for state in State},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_leads_where_the_protocol_says_or_tells_what_is_wrong(
    state: State, event: Event
) -> None:
    if (state, event) in LEGAL:
        assert after(state, event) is LEGAL[state, event]
    else:
        with pytest.raises(
            IllegalTransition, match=f"{event.name} on a stream that is {state.name}"
        ):
            after(state, event)
