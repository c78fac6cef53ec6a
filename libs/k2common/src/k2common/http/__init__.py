"""One shape of HTTP for all services: errors, parameters, pages, formats, probes."""
