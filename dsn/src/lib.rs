//! A peer of the IPFS network behind one handle: DHT, block exchange, UnixFS, request-response
