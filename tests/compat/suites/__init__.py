"""Test suites that etcd's Python clients ship, run against Chainfire and a real etcd alike."""
