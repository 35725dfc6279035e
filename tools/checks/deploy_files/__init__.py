"""What tools/checks/deploy looks at, one file each."""

import yaml


class Loader(yaml.SafeLoader):
    """As SafeLoader, and refuses a key that is there twice."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice in one mapping: {sorted(twice)}", node.start_mark)
        return super().construct_mapping(node, deep)


def documents_of(text):
    """The documents of a YAML file."""
    return [document for document in yaml.load_all(text, Loader) if document is not None]
