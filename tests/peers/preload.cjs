// Loaded before a node's own code (`node --require`).
"use strict";

// Node 20 has not got it; some dependencies of Lodestar, newer than Lodestar itself, call it.
Promise.withResolvers ??= function withResolvers() {
  let resolve, reject;
  const promise = new this((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
};

// A test talks to nobody but itself: both nodes would listen on every interface, and have no option against it.
const { Server } = require("node:net");
const { Socket } = require("node:dgram");
for (const [Class, method] of [[Server, "listen"], [Socket, "bind"]]) {
  const open = Class.prototype[method];
  Class.prototype[method] = function onLoopback(...args) {
    const port = typeof args[0] === "object" && args[0] !== null ? args[0].port : args[0];
    if (port !== undefined && !isNaN(port)) {
      const done = args.filter((arg) => typeof arg === "function");
      return open.call(this, { port: Number(port), host: "127.0.0.1", address: "127.0.0.1" }, ...done);
    }
    return open.apply(this, args);
  };
}
