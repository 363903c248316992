mod fuzz;
mod model;
mod negotiation;
mod talk;
mod transmission;
