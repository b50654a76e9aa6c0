"""Response fields that enable protections of browsers."""

from __future__ import annotations

from wsgi.application.groups import CallNext
from wsgi.application.request import Request
from wsgi.application.response import Response

__all__ = ["SecurityHeadersMiddleware"]


class SecurityHeadersMiddleware:
    """Adds the fields that browsers ask for before they protect a site. What a handler set itself stays.

    Every field but `nosniff` can be left out by None.

    Parameters:
        content_security_policy: what a page may load (CSP Level 3). The default allows what comes from the same
            origin, and so neither inline scripts nor inline styles.
        frame_options: which sites may show a page in a frame: "DENY", "SAMEORIGIN" or None (RFC 7034).
        referrer_policy: what other sites learn about the page a visitor comes from.
        opener_policy: `Cross-Origin-Opener-Policy`: what windows of other origins can reach. Sign-in by a pop-up of
            another site needs "same-origin-allow-popups".
        permissions_policy: what pages may use, for example "camera=(), geolocation=()".
        hsts: seconds for which browsers shall come by https only; sent over https alone (RFC 6797 §7.2). It cannot be
            taken back before they are over: begin with 300. Behind a proxy that does TLS, the scheme must be right.
        hsts_subdomains: whether `hsts` covers all subdomains, too.

    Raises:
        ValueError: a value that no browser understands.
    """

    def __init__(
        self,
        *,
        content_security_policy: str
        | None = "default-src 'self'; base-uri 'self'; form-action 'self'; object-src 'none'",
        frame_options: str | None = "DENY",
        referrer_policy: str | None = "strict-origin-when-cross-origin",
        opener_policy: str | None = "same-origin",
        permissions_policy: str | None = None,
        hsts: int | None = None,
        hsts_subdomains: bool = False,
    ) -> None:
        if frame_options not in ("DENY", "SAMEORIGIN", None):
            raise ValueError(f"frame_options must be 'DENY', 'SAMEORIGIN' or None, not {frame_options!r}")
        if hsts is not None and hsts < 0:
            raise ValueError(f"hsts is a number of seconds, 0 or more, not {hsts}")
        given = {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": content_security_policy,
            "X-Frame-Options": frame_options,
            "Referrer-Policy": referrer_policy,
            "Cross-Origin-Opener-Policy": opener_policy,
            "Permissions-Policy": permissions_policy,
        }
        self.fields = {name: value for name, value in given.items() if value is not None}
        self.secure_fields = {}
        if hsts is not None:
            self.secure_fields["Strict-Transport-Security"] = (
                f"max-age={int(hsts)}" + "; includeSubDomains" * hsts_subdomains
            )

    def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Answers with what comes after, and the fields it lacks."""
        response = call_next(request)
        fields = self.fields | self.secure_fields if request.scheme == "https" else self.fields
        for name, value in fields.items():
            response.headers.setdefault(name, value)
        return response
