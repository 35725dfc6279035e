//! The JSON chunk: nodes, meshes, accessors and materials over the binary chunk's layout.

use std::collections::BTreeMap;

use gltf_json::{
    Accessor, Buffer, Index, Material, Mesh, Node, Root,
    accessor::{ComponentType, GenericComponentType, Type},
    buffer::{Stride, Target, View},
    extensions::material::Unlit,
    extras::RawValue,
    material::{PbrMetallicRoughness, StrengthFactor},
    mesh::{Mode, Primitive, Semantic},
    validation::{Checked::Valid, USize64},
};
use serde_json::{Value, json};

use super::{
    ColorSpace, GlbError, Orientation, cameras,
    columns::{self, CameraLayout, Layout, Stretch},
};
use crate::scene::{
    Affine, CameraMesh, Provenance, Scene,
    bounds::{NO_BOUNDS, bounds_with},
};

/// The document as JSON text.
pub(crate) fn json(
    scene: &Scene,
    provenance: &Provenance,
    layout: &Layout,
) -> Result<Vec<u8>, GlbError> {
    let mut root = Root::default();
    root.asset.generator = Some(provenance.generator.clone());
    let (view_from_world, axes) = match layout.options.orientation {
        Orientation::Script => (scene.node_transform, scene.world.view_axes()),
        Orientation::Gltf => (scene.gltf_from_world(), scene.world.gltf_axes()),
    };
    let extras = serde_json::to_string(&provenance.with_axes(axes));
    let extras = extras.and_then(RawValue::from_string);
    root.asset.extras = Some(extras.map_err(GlbError::Document)?);
    root.extensions_used.push("KHR_materials_unlit".to_owned());
    if layout.options.is_quantized() {
        let name = "KHR_mesh_quantization".to_owned();
        root.extensions_used.push(name.clone());
        root.extensions_required.push(name);
    }
    let buffer = root.push(Buffer {
        byte_length: USize64(layout.total()),
        name: None,
        uri: None,
        extensions: None,
        extras: None,
    });
    let mut document = Document { root, buffer };
    let mut children = vec![document.points(layout)];
    if let Some(cameras) = &layout.cameras {
        children.extend(document.cameras(&scene.cameras, cameras, layout.options.color_space));
    }
    children.extend(cameras::nodes(&mut document.root, scene));
    document.scene(&view_from_world, children);
    document.root.to_vec().map_err(GlbError::Document)
}

struct Document {
    root: Root,
    buffer: Index<Buffer>,
}

impl Document {
    fn scene(&mut self, view_from_world: &Affine, children: Vec<Index<Node>>) {
        let node = self.root.push(Node {
            name: Some("scene".to_owned()),
            children: Some(children),
            matrix: column_major(view_from_world),
            ..Node::default()
        });
        let scene = self.root.push(gltf_json::Scene {
            extensions: None,
            extras: None,
            name: None,
            nodes: vec![node],
        });
        self.root.scene = Some(scene);
    }

    fn points(&mut self, layout: &Layout) -> Index<Node> {
        let count = layout.points;
        let positions = self.view(&layout.positions, Target::ArrayBuffer);
        let colors = self.view(&layout.colors, Target::ArrayBuffer);
        let [low, high] = layout.bounds;
        // The bounds of an accessor are those of the numbers as stored.
        let mut position = if layout.options.is_quantized() {
            let bounds = [json!(layout.quantize(low)), json!(layout.quantize(high))];
            Accessor {
                normalized: true,
                ..accessor(positions, 0, count, ComponentType::U16, Type::Vec3, bounds)
            }
        } else {
            let bounds = [json!(low), json!(high)];
            accessor(positions, 0, count, ComponentType::F32, Type::Vec3, bounds)
        };
        position.name = Some("positions".to_owned());
        let color = color_accessor(colors, 0, count, layout.options.color_space);
        let material = self.unlit("points");
        let mesh = self.mesh("points", Mode::Points, position, color, None, material);
        let mut node = Node {
            name: Some("points".to_owned()),
            mesh: Some(mesh),
            ..Node::default()
        };
        if layout.options.is_quantized() {
            node.translation = Some(low);
            node.scale = Some(layout.extent().map(|x| x as f32));
        }
        self.root.push(node)
    }

    fn cameras(
        &mut self,
        cameras: &[CameraMesh],
        layout: &CameraLayout,
        space: ColorSpace,
    ) -> Vec<Index<Node>> {
        let positions = self.view(&layout.positions, Target::ArrayBuffer);
        let colors = self.view(&layout.colors, Target::ArrayBuffer);
        let indices = self.view(&layout.indices, Target::ElementArrayBuffer);
        let indices = self.root.push(Accessor {
            min: None,
            max: None,
            ..accessor(
                indices,
                0,
                layout.index_count,
                ComponentType::U16,
                Type::Scalar,
                [Value::Null, Value::Null],
            )
        });
        // One-sided: the shapes bring their own backs.
        let material = self.unlit("cameras");
        let mut first_vertex = 0;
        cameras
            .iter()
            .map(|camera| {
                let count = camera.vertices.len();
                let bounds = bounds_with(NO_BOUNDS, &camera.vertices).map(|b| json!(b));
                let position = accessor(
                    positions,
                    first_vertex * layout.positions.stride,
                    count,
                    ComponentType::F32,
                    Type::Vec3,
                    bounds,
                );
                let color =
                    color_accessor(colors, first_vertex * layout.colors.stride, count, space);
                first_vertex += count;
                let name = format!("camera {}", camera.frame);
                let mesh = self.mesh(
                    &name,
                    Mode::Triangles,
                    position,
                    color,
                    Some(indices),
                    material,
                );
                self.root.push(Node {
                    name: Some(name),
                    mesh: Some(mesh),
                    ..Node::default()
                })
            })
            .collect()
    }

    fn mesh(
        &mut self,
        name: &str,
        mode: Mode,
        position: Accessor,
        color: Accessor,
        indices: Option<Index<Accessor>>,
        material: Index<Material>,
    ) -> Index<Mesh> {
        let attributes = BTreeMap::from([
            (Valid(Semantic::Positions), self.root.push(position)),
            (Valid(Semantic::Colors(0)), self.root.push(color)),
        ]);
        self.root.push(Mesh {
            extensions: None,
            extras: None,
            name: Some(name.to_owned()),
            primitives: vec![Primitive {
                attributes,
                extensions: None,
                extras: None,
                indices,
                material: Some(material),
                mode: Valid(mode),
                targets: None,
            }],
            weights: None,
        })
    }

    /// A material that shows the vertex colors as they are, and dull where a viewer does not know "unlit".
    fn unlit(&mut self, name: &str) -> Index<Material> {
        self.root.push(Material {
            name: Some(name.to_owned()),
            pbr_metallic_roughness: PbrMetallicRoughness {
                metallic_factor: StrengthFactor(0.0),
                ..PbrMetallicRoughness::default()
            },
            extensions: Some(gltf_json::extensions::material::Material {
                unlit: Some(Unlit {}),
            }),
            ..Material::default()
        })
    }

    fn view(&mut self, stretch: &Stretch, target: Target) -> Index<View> {
        // Indices lie close together by definition and must not name a stride.
        let vertices = target == Target::ArrayBuffer;
        self.root.push(View {
            buffer: self.buffer,
            byte_length: USize64(stretch.length),
            byte_offset: Some(USize64(stretch.offset)),
            byte_stride: vertices.then_some(Stride(stretch.stride)),
            name: None,
            target: Some(Valid(target)),
            extensions: None,
            extras: None,
        })
    }
}

fn color_accessor(view: Index<View>, offset: usize, count: usize, space: ColorSpace) -> Accessor {
    Accessor {
        min: None,
        max: None,
        normalized: true,
        ..accessor(
            view,
            offset,
            count,
            columns::color_component(space),
            Type::Vec4,
            [Value::Null, Value::Null],
        )
    }
}

fn accessor(
    view: Index<View>,
    offset: usize,
    count: usize,
    component: ComponentType,
    type_: Type,
    [min, max]: [Value; 2],
) -> Accessor {
    Accessor {
        buffer_view: Some(view),
        byte_offset: Some(USize64::from(offset)),
        count: USize64::from(count),
        component_type: Valid(GenericComponentType(component)),
        extensions: None,
        extras: None,
        type_: Valid(type_),
        min: Some(min),
        max: Some(max),
        name: None,
        normalized: false,
        sparse: None,
    }
}

/// The matrix as glTF stores it; `None` for the identity, which a node has anyway.
pub(super) fn column_major(map: &Affine) -> Option<[f32; 16]> {
    const IDENTITY: [f32; 16] = [
        1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1.,
    ];
    let rows = [map.0[0], map.0[1], map.0[2], [0.0, 0.0, 0.0, 1.0]];
    let matrix = std::array::from_fn(|i| rows[i % 4][i / 4] as f32);
    (matrix != IDENTITY).then_some(matrix)
}
