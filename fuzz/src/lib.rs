//! What the targets hold against their inputs: the oracle of tests/properties.rs.

#[path = "../../tests/oracle/mod.rs"]
pub mod oracle;
