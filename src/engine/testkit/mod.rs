//! Stand-ins and rigs for the tests of the engine, shared with properties and fuzz targets.

pub mod doubles;
pub mod framed;
pub mod multiplexed;
pub mod rig;

#[cfg(test)]
mod conversations;
#[cfg(test)]
mod fault_tests;
#[cfg(not(models))]
#[cfg(test)]
mod multiplexed_tests;
#[cfg(models)]
#[cfg(test)]
mod order_tests;
