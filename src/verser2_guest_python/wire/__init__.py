"""The wire contract as pure code: bytes become values and values become bytes (protocol.md §2 to §11).

There is no I/O and no asyncio on this floor, so that each rule can be tested by itself and all three
roles share one reading of it. Every decoder is total: it gives a value or raises a `VerserError`,
whatever it is fed, and it keeps no more bytes than `limits` allows.

    limits             sizes and codes that several modules agree on
    names              stream paths, header fields and extension names
    json_text          strict JSON in and out
    json_fields        typed fields out of a JSON object, and texts that are safe to send
    excerpt            bad values and foreign texts as a message may show them
    headers            header rules: hop-by-hop, arrays, Latin-1, cookies
    domains            how two domain names are compared
    paths              what a request path may be
    envelopes          request, response and error heads on a lease (§6)
    lines              newline-delimited pieces of a stream
    registration       registration and its answer (§2)
    routes             a Broker's control lines: route tables and lifecycle events (§3, §10)
    errors_wire        error objects (§8)
    revocation         taking routes back (§9)
    broker_request     the header fields of `/verser/request` (§7)
    websocket_request  the header fields of `/verser/websocket` (§11)
    vws                WebSocket messages, VWS/1 (§11)
"""
