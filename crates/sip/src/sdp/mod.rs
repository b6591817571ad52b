//! Session descriptions, offers and answers (RFC 8866, RFC 3264, RFC 8839).
