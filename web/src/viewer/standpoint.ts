// From where one looks: the first view, the level horizon, and the view in world space.
import { Vector3 } from "three";
import { firstView, medianDepth, type View } from "./first_view";
import { levelMatrix, upOf } from "./horizon";
import type { Pose } from "./poses";
import type { Stage } from "./stage";

/** The camera of a scene that has none. */
const ORIGIN: Pose = {
  center: new Vector3(),
  right: new Vector3(1, 0, 0),
  down: new Vector3(0, 1, 0),
  forward: new Vector3(0, 0, 1),
};

export class Standpoint {
  isLevel = true;
  /** Whether somebody moved the view; until then it is the first one, whatever the size of the window. */
  touched = false;
  private poses: Pose[] = [];
  private sample: Float64Array = new Float64Array();

  /** `corners` are those of the cameras' shapes that the first view has to show, in world space. */
  constructor(
    private readonly stage: Stage,
    private readonly corners: () => Vector3[],
  ) {}

  /** Cameras in order, and places of some points. Returns the depth that is typical of the scene. */
  setScene(poses: Pose[], sample: Float64Array): number {
    Object.assign(this, { poses, sample });
    this.stage.setWorld(this.threeFromWorld());
    return medianDepth(sample, this.first);
  }

  private get first(): Pose {
    return this.poses[0] ?? ORIGIN;
  }

  /** Without a level horizon up is that of the first camera. */
  private threeFromWorld() {
    return levelMatrix(upOf(this.isLevel && this.poses.length ? this.poses : [this.first]));
  }

  reset(): void {
    this.touched = false;
    this.fit();
  }

  /** The first view, for the window as it is now. */
  fit(): void {
    const { stage } = this;
    stage.setView(firstView(this.first, this.sample, this.corners(), stage.world.matrix, stage.aspect));
  }

  /** The eye stays where it is in the scene. */
  setLevel(level: boolean): void {
    const kept = this.worldView();
    this.isLevel = level;
    this.stage.setWorld(this.threeFromWorld());
    this.setWorldView(kept);
    if (!this.touched) this.fit();
  }

  worldView(): View {
    const worldFromThree = this.stage.world.matrix.clone().invert();
    const { eye, target } = this.stage.view();
    return { eye: eye.applyMatrix4(worldFromThree), target: target.applyMatrix4(worldFromThree) };
  }

  setWorldView({ eye, target }: View): void {
    const { matrix } = this.stage.world;
    this.stage.setView({ eye: eye.clone().applyMatrix4(matrix), target: target.clone().applyMatrix4(matrix) });
  }

  /** Brings a place of world space, `depth` ahead, to the middle; its size stays. */
  center(place: Vector3, depth: number): void {
    const { stage } = this;
    this.touched = true;
    const target = place.clone().applyMatrix4(stage.world.matrix);
    const { eye } = stage.view();
    const ahead = stage.camera.getWorldDirection(new Vector3());
    const shift = target.clone().sub(eye).addScaledVector(ahead, -depth);
    stage.setView({ eye: eye.add(shift), target }, true);
  }
}
