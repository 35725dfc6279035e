//! The operations on a device: operands from tensors, calls from the files beside this folder, results as new tensors.

mod attention;
mod bilinear;
mod conv2d;
mod layer_norm;
mod linear;

pub(in crate::ops) use attention::{HeadPreparation, SelfAttention, attention};
pub(in crate::ops) use bilinear::resample;
pub(in crate::ops) use conv2d::Conv2d;
pub(in crate::ops) use layer_norm::Norm;
pub(in crate::ops) use linear::Linear;
