//! The vendor's and the distributor's programs
