//! Blocks in object storage as a component: [`BucketBlocks`] read in this process.

use super::clients::StoreGatewayClient;
use crate::bucket::BucketBlocks;

impl StoreGatewayClient for BucketBlocks {}
