"""The same decision over HTTPS: a JSON API for app SDKs, and DNS over HTTPS."""
