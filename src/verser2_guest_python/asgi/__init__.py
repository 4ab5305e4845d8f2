"""One ASGI app: loading it, its lifespan, and one cycle for each HTTP request and each WebSocket.

Nothing here knows HTTP/2 or Verser: an app is called with plain ASGI values, and what it sends goes
to a small interface that the Guest implements. So everything here is tested against the ASGI
specification and real frameworks without a network.

    types       names of the ASGI types
    exceptions  what an app sees when it breaks a rule, or when the other end has gone
    loading     `module:attribute` -> an ASGI 3 app, mistakes told in one sentence
    adapters    which interface an app speaks; ASGI 2 as ASGI 3
    wsgi        WSGI as ASGI 3, through a2wsgi
    lifespan    startup and shutdown of the app
    scopes      the scope of a request and of a WebSocket
    http        one HTTP request
    websocket   one WebSocket
"""
