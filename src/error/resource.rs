//! The names that error details give to an upstream's targets and resources.

/// A level of an upstream's resource names. Not every upstream has all levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Target,
    Pool,
    Node,
    User,
}

/// One collection of a resource name, such as `pools/{pool_id}`.
#[derive(Debug)]
pub struct Collection {
    pub level: Level,
    /// `ResourceInfo.resource_type` of the resources in the collection, such as `useradmin/BatchPool`.
    pub resource_type: &'static str,
    /// The segment of the resource name that precedes the ID, such as `pools`.
    pub segment: &'static str,
    /// Metadata keys that may contain the ID of a resource in the collection. The first key with a value is used.
    pub metadata_keys: &'static [&'static str],
}

impl Collection {
    pub const fn new(
        level: Level,
        resource_type: &'static str,
        segment: &'static str,
        metadata_keys: &'static [&'static str],
    ) -> Self {
        Self {
            level,
            resource_type,
            segment,
            metadata_keys,
        }
    }
}

#[derive(Debug)]
pub struct ResourceNames {
    /// Name of the platform in log lines, such as `Azure Batch`.
    pub display_name: &'static str,
    /// Value of the metadata key `upstream` and of the label `upstream` of metrics.
    pub upstream: &'static str,
    /// Collections of a resource name, in the order from the target to the user.
    pub collections: &'static [Collection],
}

impl ResourceNames {
    /// Returns the name of the metadata key and of the request field that contain the alias of the target.
    pub fn alias_key(&self) -> &'static str {
        let metadata_keys = self.collections.first().map(|target| target.metadata_keys);
        metadata_keys
            .and_then(<[_]>::first)
            .copied()
            .unwrap_or_default()
    }

    /// Returns type and name of the resource at this level, or of the user if the upstream has no such level. The
    /// function `value` returns the value of a metadata key, or an empty string.
    pub fn resource<'a>(
        &self,
        level: Level,
        value: impl Fn(&'static str) -> &'a str,
    ) -> (&'static str, String) {
        let (mut resource_type, mut name) = ("", String::new());
        for collection in self.collections {
            if !name.is_empty() {
                name.push('/');
            }
            let values = collection.metadata_keys.iter().map(|key| value(key));
            let id = values.into_iter().find(|value| !value.is_empty());
            name.push_str(collection.segment);
            name.push('/');
            name.push_str(id.unwrap_or_default());
            resource_type = collection.resource_type;
            if collection.level == level {
                break;
            }
        }
        (resource_type, name)
    }
}
