mod archives;
mod crashes;
mod fixtures;
mod registries;
mod store;
